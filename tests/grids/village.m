function mpc = village
%VILLAGE  Four buses behind a transformer with a tap, with the endings of a case of the distribution kind.
%   Loads stand in kW and kvar, impedances of the lines in ohm, and are converted below.
mpc.version = '2';
mpc.baseMVA = 0.5;   % not 1

%% bus data: bus_i type Pd Qd Gs Bs area Vm Va baseKV zone Vmax Vmin
mpc.bus = [
	1	3	0	0	0	0	1	1	0	20	1	1.05	0.95;
	2	1	0	0	0	0.01	1	1	0	0.4	1	1.1	0.9;
	7	1	40	12	0	0	1	1	0	0.4	1	1.1	0.9;  % a comment; with a semicolon
	4	2	25	...
		5	0	0	1	1	0	0.4	1	1.1	0.9;
	9	4	0	0	0	0	1	1	0	0.4	1	1.1	0.9;
];

mpc.gen = [
	1	0	0	10	-10	1.02	100	1	10	0;
	1	0	0	10	-10	1.02	100	1	10	0;
	4	0.010	0	1	-1	1	100	1	1	0;
	7	0.010	0	1	-1	1	100	0	1	0;
];

%% branch data: fbus tbus r x b rateA rateB rateC ratio angle status
mpc.branch = [
	1	2	0.01	0.05	0.002	0.4	0	0	0.975	150	1;
	2	7	0.03	0.012	0.0	0.1	0	0	0	0	1;
	7	4	0.05	0.015	0.0	0	0	0	0	0	1;
	4	2	0.05	0.015	0.0	0	0	0	0	0	0;
];

mpc.bus_name = {
	'head';
	'busbar';
	'farm';
	'mill; and shop';
	'ruin';
};

[PQ, PV, REF, NONE, BUS_I, BUS_TYPE, PD, QD, GS, BS] = idx_bus;
Vbase = mpc.bus(2, BASE_KV) * 1e3;
Sbase = mpc.baseMVA * 1e6;
mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;
