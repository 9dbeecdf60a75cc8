// WebAssembly's binary format, as far as the build changes modules.

/** Reads bytes and numbers. */
export class Reader {
  constructor(bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  byte() {
    return this.bytes[this.at++];
  }

  /** A number in LEB128 of up to 53 bits, unsigned. */
  number() {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }

  skipNumbers(count) {
    for (let skipped = 0; skipped < count; ) if (this.byte() < 0x80) skipped += 1;
  }
}

/** A number in unsigned LEB128. */
export function leb(value) {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 0x80);
  }
}

/** The module with the contents of some sections changed. `changes`: by the section's id, what makes the new content of the old one. */
export function withSections(bytes, changes) {
  const pieces = [bytes.subarray(0, 8)];
  const reader = new Reader(bytes, 8);
  while (reader.at < bytes.length) {
    const id = reader.byte();
    const length = reader.number();
    const content = bytes.subarray(reader.at, reader.at + length);
    reader.at += length;
    const changed = changes[id]?.(content) ?? content;
    pieces.push(Buffer.from([id]), leb(changed.length), changed);
  }
  return Buffer.concat(pieces);
}

const EXPORT = 7;

/** The module without the exports whose names `isUnwanted` finds. What only they used is left for wasm-opt to remove. */
export const withoutExports = (bytes, isUnwanted) =>
  withSections(bytes, {
    [EXPORT](section) {
      const reader = new Reader(section);
      const kept = [];
      for (let rest = reader.number(); rest > 0; rest -= 1) {
        const start = reader.at;
        const length = reader.number();
        const name = section.toString("utf8", reader.at, reader.at + length);
        reader.at += length;
        reader.byte();
        reader.skipNumbers(1);
        if (!isUnwanted(name)) kept.push(section.subarray(start, reader.at));
      }
      return Buffer.concat([leb(kept.length), ...kept]);
    },
  });
