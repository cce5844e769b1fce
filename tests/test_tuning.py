"""Tuning: derivatives against finite differences, safety for any weights, resume, the controller file."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_slots import random_slot

from jaxp2p import simulation
from jaxp2p.community.build import build_community, build_horizon
from jaxp2p.data import load_case, window
from jaxp2p.lyapunov.tuned import FEATURES
from jaxp2p.newton import adjoint
from jaxp2p.newton import solver as newton
from jaxp2p.newton.solver import Newton
from jaxp2p.policy import follow, lyapunov, make_reference, suggest_penalties
from jaxp2p.slot import execute
from jaxp2p.tuning.controller_file import read_controller, write_controller
from jaxp2p.tuning.reduce import decisive
from jaxp2p.tuning.train import Settings, Window, start_value, tune, window_cost

EXACT = Newton(eps_gap=1e-13, eps_flow=1e-9, eps_voltage=1e-12, max_iter=5000)
