"use strict";
// The data of the page: JSON as it is, series as blocks (jaxp2p/report/html/packing.py says how they are packed).

const page = JSON.parse(document.getElementById("page-data").textContent);

const LARGEST = 2 ** 27;
const opened = new Map(); // number of a block -> promise of its bytes
const unpacked = new Map(); // reference as text -> promise of its rows

function bytesOf(number) {
  if (!opened.has(number)) {
    const text = document.getElementById(`block-${number}`).textContent.trim();
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    opened.set(number, new Response(stream).arrayBuffer().then((buffer) => new Uint8Array(buffer)));
  }
  return opened.get(number);
}

/** Rows of numbers that a reference stands for, null where a value is missing; parents: rows above each. */
function read(reference, parents = null) {
  const key = `${reference.block}/${reference.rows}/${reference.scale}`;
  if (!unpacked.has(key)) unpacked.set(key, bytesOf(reference.block).then((bytes) => unpack(bytes, reference, parents)));
  return unpacked.get(key);
}

/** The only row of a reference. */
const readRow = (reference) => read(reference).then((rows) => rows[0]);

function unpack(bytes, { rows, planes, scale }, parents) {
  const size = bytes.length / planes;
  const columns = size / rows;
  const table = [];
  for (let row = 0; row < rows; row++) {
    const values = new Array(columns);
    const above = parents && parents[row] >= 0 ? table[parents[row]] : null;
    let whole = 0;
    for (let column = 0; column < columns; column++) {
      const place = row * columns + column;
      let folded = 0;
      for (let plane = planes - 1; plane >= 0; plane--) folded = folded * 256 + bytes[plane * size + place];
      whole += folded % 2 ? -(folded + 1) / 2 : folded / 2;
      values[column] = above ? whole + above[column] : whole;
    }
    table.push(values);
  }
  return table.map((values) => values.map((whole) => (whole > LARGEST ? null : whole / scale)));
}
