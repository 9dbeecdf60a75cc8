// Suggestions for mistyped commands, options and names.

/** A word that differs in more than a third of its letters is another word. */
const ALIKE = 1 / 3;

/**
 * The word of a list that is written most like `typed`; `undefined` if none is much like it.
 *
 * @param {string} typed
 * @param {readonly string[]} words
 */
export function nearest(typed, words) {
  const plain = (/** @type {string} */ word) => word.toLowerCase().replaceAll(/[-_]/g, "");
  const [best] = words
    .map((word) => ({ word, edits: edits(plain(typed), plain(word)) }))
    .filter(({ word, edits }) => edits <= Math.ceil(plain(word).length * ALIKE))
    .sort((one, other) => one.edits - other.edits);
  return best?.word;
}

/**
 * The number of letters to add, remove, replace or swap with their neighbours that turns one word into another.
 *
 * @param {string} from
 * @param {string} to
 */
function edits(from, to) {
  const rows = [Array.from({ length: to.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= from.length; row += 1) {
    rows[row] = [row];
    for (let column = 1; column <= to.length; column += 1) {
      const same = from[row - 1] === to[column - 1] ? 0 : 1;
      const swapped = row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      const ways = [rows[row - 1][column] + 1, rows[row][column - 1] + 1, rows[row - 1][column - 1] + same];
      rows[row][column] = Math.min(...ways, swapped ? rows[row - 2][column - 2] + 1 : Infinity);
    }
  }
  return rows[from.length][to.length];
}
