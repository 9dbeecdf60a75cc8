// Tables with 32-bit indices for a module with 64-bit memory. LLVM gives such a module 64-bit indices for its tables too, which engines learned
// later than 64-bit memory (Node 22 has only the latter), and which nothing needs.

import { Reader, leb, withSections } from "./wasm-format.mjs";

/** Sections. */
const [TABLE, ELEMENT, CODE] = [4, 9, 10];
/** In the flags of limits: indices or addresses have 64 bits. */
const WIDE = 4;
/** Instructions. */
const [I32_CONST, I64_CONST, I32_WRAP_I64, CALL_INDIRECT, RETURN_CALL_INDIRECT] = [0x41, 0x42, 0xa7, 0x11, 0x13];

/** Reads functions and tables. */
class CodeReader extends Reader {
  /** An offset that is a constant; returns the place of its opcode. */
  skipOffset() {
    const place = this.at;
    if (this.byte() !== I64_CONST) throw new Error("a table's offset is no i64.const");
    this.skipNumbers(1);
    if (this.byte() !== 0x0b) throw new Error("a table's offset is more than a constant");
    return place;
  }

  /** Skips an instruction's immediates. */
  skipImmediates(opcode) {
    // Block types, locals, globals, labels, functions, tags, types.
    if ([0x02, 0x03, 0x04, 0x06, 0x07, 0x08, 0x09, 0x0c, 0x0d, 0x10, 0x12, 0x18, 0xd0, 0xd2].includes(opcode) || (opcode >= 0x20 && opcode <= 0x26)) return this.skipNumbers(1);
    if (opcode === 0x0e) return this.skipNumbers(this.number() + 1);
    if (opcode === 0x1c) return this.skipNumbers(this.number());
    if (opcode === CALL_INDIRECT || opcode === RETURN_CALL_INDIRECT) return this.skipNumbers(2);
    if (opcode >= 0x28 && opcode <= 0x3e) return this.#skipMemoryArgument();
    if ([0x3f, 0x40, I32_CONST, I64_CONST].includes(opcode)) return this.skipNumbers(1);
    if (opcode === 0x43) this.at += 4;
    else if (opcode === 0x44) this.at += 8;
    else if (opcode === 0xfc) this.#skipOfMiscellaneous(this.number());
    else if (opcode === 0xfd) this.#skipOfSimd(this.number());
    else if (opcode === 0xfe) this.#skipOfAtomics(this.number());
    else if (opcode > 0xc4 || opcode === 0x1f || opcode === 0x0a || opcode === 0x14 || opcode === 0x15) throw new Error(`the instruction 0x${opcode.toString(16)} is unknown here`);
  }

  #skipMemoryArgument() {
    if (this.number() & 0x40) throw new Error("there are several memories");
    this.skipNumbers(1);
  }

  #skipOfMiscellaneous(opcode) {
    if (opcode <= 7) return;
    if (opcode > 17) throw new Error(`the instruction 0xfc ${opcode} is unknown here`);
    this.skipNumbers([8, 10, 12, 14].includes(opcode) ? 2 : 1);
  }

  #skipOfSimd(opcode) {
    if (opcode <= 11 || opcode === 92 || opcode === 93) return this.#skipMemoryArgument();
    if (opcode === 12 || opcode === 13) this.at += 16;
    else if (opcode >= 21 && opcode <= 34) this.at += 1;
    else if (opcode >= 84 && opcode <= 91) {
      this.#skipMemoryArgument();
      this.at += 1;
    }
  }

  #skipOfAtomics(opcode) {
    if (opcode === 3) this.at += 1;
    else this.#skipMemoryArgument();
  }
}

/**
 * The module with 32-bit indices for its tables. It has one table of functions, as LLVM writes it, and no instructions of later proposals. What comes
 * out must be validated: some other modules would be changed in a wrong way.
 */
export const withNarrowTables = (bytes) => withSections(bytes, { [TABLE]: tables, [ELEMENT]: elements, [CODE]: code });

function tables(section) {
  const changed = Buffer.from(section);
  const reader = new CodeReader(changed);
  for (let rest = reader.number(); rest > 0; rest -= 1) {
    if (reader.byte() === 0x40) throw new Error("a table has an initial value");
    const flags = reader.byte();
    changed[reader.at - 1] = flags & ~WIDE;
    reader.skipNumbers(flags & 1 ? 2 : 1);
  }
  return changed;
}

function elements(section) {
  const changed = Buffer.from(section);
  const reader = new CodeReader(changed);
  for (let rest = reader.number(); rest > 0; rest -= 1) {
    const flags = reader.number();
    if (flags !== 0) throw new Error("an element segment is not of the first table");
    changed[reader.skipOffset()] = I32_CONST;
    reader.skipNumbers(reader.number());
  }
  return changed;
}

function code(section) {
  const reader = new CodeReader(section);
  const count = reader.number();
  const pieces = [leb(count)];
  for (let rest = count; rest > 0; rest -= 1) {
    const length = reader.number();
    const body = body32(section.subarray(reader.at, reader.at + length));
    reader.at += length;
    pieces.push(leb(body.length), body);
  }
  return Buffer.concat(pieces);
}

/** A function, with its indices of the first table, which are on the stack, made shorter. */
function body32(body) {
  const reader = new CodeReader(body);
  for (let rest = reader.number(); rest > 0; rest -= 1) {
    reader.skipNumbers(1);
    reader.byte();
  }
  const pieces = [];
  let copied = 0;
  while (reader.at < body.length) {
    const place = reader.at;
    const opcode = reader.byte();
    reader.skipImmediates(opcode);
    if (opcode !== CALL_INDIRECT && opcode !== RETURN_CALL_INDIRECT) continue;
    pieces.push(body.subarray(copied, place), Buffer.from([I32_WRAP_I64]));
    copied = place;
  }
  if (reader.at !== body.length) throw new Error("a function does not end where it should");
  pieces.push(body.subarray(copied));
  return Buffer.concat(pieces);
}
