// GGUF files for tests: the real model's header, taken apart, changed and written again.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

import { open } from "node:fs/promises";

/** Bytes of the real file that hold its whole header (vocabulary and merges), and some tensor data behind it. */
const HEAD = 2 << 20;

const ALIGNMENT = 32;
const TEXT = 8;
const ARRAY = 9;
const U32 = 4;
/** Metadata type → bytes of one value. */
const WIDTH = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };

const F32 = 0;

/** The beginning of a file. */
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
 * A header in parts. `at` of an entry and `typeAt` of a tensor are offsets in `bytes`, for cuts and patches.
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

/** A header as bytes, up to where tensor data begins. */
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

/** The header with another text, whole number or list of either as one of its metadata entries. */
export function withEntry(header, key, value) {
  return { ...header, entries: [...header.entries.filter((entry) => entry.key !== key), { key, ...typed(value) }] };
}

function typed(value) {
  if (typeof value === "string") return { type: TEXT, value: text(value) };
  if (!Array.isArray(value)) return { type: U32, value: u32(value) };
  const elements = value.map(typed);
  return { type: ARRAY, value: Buffer.concat([u32(elements[0].type), u64(elements.length), ...elements.map((element) => element.value)]) };
}

/** A metadata list of texts. */
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

/** The bytes with some of them replaced. */
export function patched(bytes, at, replacement) {
  const copy = bytes.slice();
  copy.set(replacement, at);
  return copy;
}

/**
 * The header of a model of one layer that fits the format and itself, whose feed-forward matrices have `rows` rows of F32:
 * 38 GB each by default. They stand first: what comes before a tensor is read before memory is asked for it.
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
  bytes.writeUInt32LE(value);
  return bytes;
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
