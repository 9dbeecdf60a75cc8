// GGUF files for tests: either built from entries and tensors, or made from the real model's header, which is parsed, changed and
// rewritten.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

import { open } from "node:fs/promises";

/** Length in bytes of a prefix of the real file that contains its whole header (with vocabulary and merges) and some tensor data. */
const HEAD = 2 << 20;

const ALIGNMENT = 32;
/** GGUF type codes of metadata values. */
const U16 = 2;
const U32 = 4;
const I32 = 5;
const F32_VALUE = 6;
const BOOL = 7;
const TEXT = 8;
const ARRAY = 9;
/** Metadata type → size of one value in bytes, for types of fixed size. */
const WIDTH = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };

/** GGML type code of F32 tensors. */
const F32 = 0;

/** The first `length` bytes of a file. */
export async function headOf(path, length = HEAD) {
  const handle = await open(path);
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, 0);
    return new Uint8Array(buffer.buffer, buffer.byteOffset, bytesRead);
  } finally {
    await handle.close();
  }
}

/**
 * Parses a header. `at` (where an entry's value begins) and `typeAt` (where a tensor's type is) are offsets in `bytes`, for tests that
 * cut or patch the file.
 *
 * @returns {{entries: {key: string, type: number, value: Uint8Array, at: number}[],
 *   tensors: {name: string, dims: bigint[], type: number, offset: bigint, typeAt: number}[], dataStart: number}}
 */
export function parseHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const u32 = () => view.getUint32((at += 4) - 4, true);
  const u64 = () => view.getBigUint64((at += 8) - 8, true);
  const take = (length) => bytes.subarray(at, (at += length));
  const text = () => Buffer.from(take(Number(u64()))).toString("utf8");
  const pass = (type) => {
    if (type === TEXT) return void take(Number(u64()));
    if (type !== ARRAY) return void take(WIDTH[type]);
    const element = u32();
    for (let count = Number(u64()); count > 0; count -= 1) pass(element);
  };
  take(8);
  const tensorCount = Number(u64());
  const entryCount = Number(u64());
  const entries = Array.from({ length: entryCount }, () => {
    const key = text();
    const type = u32();
    const start = at;
    pass(type);
    return { key, type, value: bytes.slice(start, at), at: start };
  });
  const tensors = Array.from({ length: tensorCount }, () => {
    const name = text();
    const dims = Array.from({ length: u32() }, u64);
    const typeAt = at;
    return { name, dims, type: u32(), offset: u64(), typeAt };
  });
  return { entries, tensors, dataStart: Math.ceil(at / ALIGNMENT) * ALIGNMENT };
}

/** Serialises a header, with the padding up to the start of the tensor data. */
export function writeHeader({ entries, tensors }) {
  const body = Buffer.concat([
    Buffer.from("GGUF"),
    u32(3),
    u64(tensors.length),
    u64(entries.length),
    ...entries.flatMap(({ key, type, value }) => [text(key), u32(type), value]),
    ...tensors.flatMap(({ name, dims, type, offset }) => [text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset)]),
  ]);
  return Buffer.concat([body, Buffer.alloc(-body.length & (ALIGNMENT - 1))]);
}

/** A copy of the header in which the metadata entry `key` has a new value: a string, an integer, a non-empty list of either, or a value with its type. */
export function withEntry(header, key, value) {
  return { ...header, entries: [...header.entries.filter((entry) => entry.key !== key), { key, ...typed(value) }] };
}

function typed(value) {
  if (typeof value === "string") return string(value);
  if (value.type !== undefined) return value;
  return Array.isArray(value) ? list(value.map(typed)) : int(value);
}

/** Metadata values, each with its GGUF type code. */
export const string = (value) => ({ type: TEXT, value: text(value) });
export const int = (value) => ({ type: U32, value: u32(value) });
export const u16 = (value) => ({ type: U16, value: Uint8Array.of(value & 255, value >> 8) });
export const ints = (values) => list(values.map((value) => ({ type: I32, value: u32(value) })));
/** The same as `list(values.map(string))`, for vocabularies. */
export function strings(values) {
  const value = Buffer.alloc(12 + values.reduce((sum, text) => sum + 8 + Buffer.byteLength(text), 0));
  value.writeUInt32LE(TEXT);
  value.writeBigUInt64LE(BigInt(values.length), 4);
  let at = 12;
  for (const text of values) {
    const length = value.write(text, at + 8);
    value.writeUInt32LE(length, at);
    at += 8 + length;
  }
  return { type: ARRAY, value };
}
export const floats = (values) => ({ type: ARRAY, value: Buffer.concat([u32(F32_VALUE), u64(values.length), f32s(values)]) });
export const float = (value) => ({ type: F32_VALUE, value: f32s([value]) });
export const flag = (value) => ({ type: BOOL, value: Buffer.from([value ? 1 : 0]) });
/** At least one element; all elements must have the same type. */
export const list = (elements) => ({
  type: ARRAY,
  value: Buffer.concat([u32(elements[0].type), u64(elements.length), ...elements.map(({ value }) => value)]),
});

/**
 * Serialises a whole file.
 *
 * @param {Record<string, {type: number, value: Uint8Array}>} entries the metadata, in this order
 * @param {{name: string, dims: number[], values?: Float32Array, type?: number, bytes?: Uint8Array}[]} tensors F32 tensors with `values`, or of any
 *   `type` with `bytes`; `dims` begins with the number of columns, as in GGUF
 * @returns {Uint8Array}
 */
export function ggufFile(entries, tensors) {
  let end = 0;
  const data = tensors.map(({ values, bytes }) => bytes ?? f32s(values));
  const placed = tensors.map(({ name, dims, type = F32 }, index) => {
    const offset = end;
    end += Math.ceil(data[index].length / ALIGNMENT) * ALIGNMENT;
    return { name, dims, type, offset };
  });
  const header = writeHeader({ entries: Object.entries(entries).map(([key, value]) => ({ key, ...value })), tensors: placed });
  const file = new Uint8Array(header.length + end);
  file.set(header);
  data.forEach((bytes, index) => file.set(bytes, header.length + placed[index].offset));
  return file;
}

/**
 * A model as the files that llama.cpp's `gguf-split` makes of it: the first one has the metadata, each one has `split.no`, `split.count` and
 * `split.tensors.count`, and each tensor is in one of them.
 *
 * @param {Uint8Array} bytes a whole file
 * @param {number[]} counts the number of tensors in each file but the last, which has the others
 * @param {(file: {entries: object, tensors: object[]}, part: number) => object} [changed] another header of a part, from 0
 * @returns {Uint8Array[]}
 */
export function splitFile(bytes, counts, changed = (header) => header) {
  const { entries, tensors, dataStart } = parseHeader(bytes);
  const inOrder = tensors.toSorted((a, b) => Number(a.offset - b.offset));
  const data = inOrder.map(({ offset }, index) => bytes.subarray(dataStart + Number(offset), dataStart + Number(inOrder[index + 1]?.offset ?? bytes.length)));
  const ends = [...counts, tensors.length].map((count, part) => (part < counts.length ? counts.slice(0, part + 1).reduce((sum, one) => sum + one, 0) : count));
  return ends.map((end, part) => {
    const start = part === 0 ? 0 : ends[part - 1];
    const split = { "split.no": u16(part), "split.count": u16(ends.length), "split.tensors.count": { type: I32, value: u32(tensors.length) } };
    const own = part === 0 ? entries : [];
    let length = 0;
    const placed = inOrder.slice(start, end).map((tensor, index) => ({ ...tensor, offset: (length += padded(data[start + index])) - padded(data[start + index]) }));
    const header = writeHeader(changed({ entries: [...own, ...Object.entries(split).map(([key, value]) => ({ key, ...value }))], tensors: placed }, part));
    return new Uint8Array(Buffer.concat([header, ...data.slice(start, end).flatMap((tensor) => [tensor, Buffer.alloc(padded(tensor) - tensor.length)])]));
  });
}

const padded = ({ length }) => Math.ceil(length / ALIGNMENT) * ALIGNMENT;

/** The name of a part, from 0, as `gguf-split` writes it. */
export const partName = (prefix, part, count) => `${prefix}-${String(part + 1).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.gguf`;

/** The strings of a metadata entry that is a list of strings. */
export function textsOf(header, key) {
  const { value } = header.entries.find((entry) => entry.key === key);
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  let at = 12;
  return Array.from({ length: Number(bytes.readBigUInt64LE(4)) }, () => {
    const start = at + 8;
    at = start + Number(bytes.readBigUInt64LE(at));
    return bytes.toString("utf8", start, at);
  });
}

/** The integers of a metadata entry that is a list of 32-bit integers. */
export function intsOf(header, key) {
  const { value } = header.entries.find((entry) => entry.key === key);
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  return Array.from({ length: Number(view.getBigUint64(4, true)) }, (_, index) => view.getInt32(12 + 4 * index, true));
}

/** A copy of the bytes in which those from offset `at` on are replaced. */
export function patched(bytes, at, replacement) {
  const copy = bytes.slice();
  copy.set(replacement, at);
  return copy;
}

/**
 * A valid and consistent header of a model with one layer, whose feed-forward matrices are F32 with `rows` rows (`ffn_down`: columns), by
 * default 38 GB each. These tensors come first, because everything before a tensor is read before its memory is allocated.
 */
export function giantHeader(real, rows = 1n << 24n) {
  const isGiant = ({ name }) => /\.ffn_(gate|up|down)\.weight$/.test(name);
  const ofOneLayer = real.tensors.filter(({ name }) => !name.startsWith("blk.") || name.startsWith("blk.0."));
  const giants = ofOneLayer.filter(isGiant).map(({ name, dims: [inner, outer] }) => {
    const dims = name.includes("ffn_down") ? [rows, outer] : [inner, rows];
    return { name, dims, type: F32, length: dims[0] * dims[1] * 4n };
  });
  const others = ofOneLayer.filter((tensor) => !isGiant(tensor)).map((tensor) => ({ ...tensor, length: 1n << 30n }));
  let end = 0n;
  const tensors = [...giants, ...others].map((tensor) => ({ ...tensor, offset: (end += tensor.length) - tensor.length }));
  const oneLayer = withEntry(real, "llama.block_count", 1);
  return { ...withEntry(oneLayer, "llama.feed_forward_length", Number(rows)), tensors };
}

export function u32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

/** Node runs on little-endian machines only, and GGUF is little-endian too. */
function f32s(values) {
  const floats = values instanceof Float32Array ? values : Float32Array.from(values);
  return new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
}

export function u64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value) {
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([u64(bytes.length), bytes]);
}
