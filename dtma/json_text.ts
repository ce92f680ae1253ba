/**
 * JSON as text: the members of an object with the text of their values, so that a message is taken
 * apart and put together again without its numbers, key order or unknown parts being changed by a
 * round trip through JavaScript's values (`1e400`, `9007199254740993`, `1.0`).
 */

/** Deepest nesting of a message that is read; more is refused before anything parses it. */
export const DEPTH_LIMIT = 64;

const QUOTE = 0x22, BACKSLASH = 0x5c, COLON = 0x3a, COMMA = 0x2c;
const OPEN_OBJECT = 0x7b, CLOSE_OBJECT = 0x7d, OPEN_ARRAY = 0x5b, CLOSE_ARRAY = 0x5d;

/** The members of an object's text, to be looked at one by one; and how deep the text nests. */
export class Outline {
  readonly #text: string;
  readonly #keys: string[] = [];
  /** Where the members' values begin and end, in turn. */
  readonly #places: number[] = [];
  readonly depth: number;

  constructor(text: string) {
    this.#text = text;
    this.depth = scan(text, (key, start, end) => {
      this.#keys.push(key);
      this.#places.push(start, end);
    });
  }

  /** The text of a member's value; of equal keys' the last one, as `JSON.parse` has it. */
  textOf(key: string): string | undefined {
    const at = this.#keys.lastIndexOf(key);
    if (at < 0) return undefined;
    return this.#text.slice(this.#places[2 * at], this.#places[2 * at + 1]).trim();
  }
}

/**
 * Scans a text once. It judges nothing but strings and brackets: on text that is not JSON it returns
 * something without meaning, so check with `JSON.parse` before the outline is used.
 */
export function outline(text: string): Outline {
  return new Outline(text);
}

/** The members of an object's text, each with the text of its value. The text must be valid JSON. */
export function objectMembers(text: string): Map<string, string> {
  const members = new Map<string, string>();
  scan(text, (key, start, end) => members.set(key, text.slice(start, end).trim()));
  return members;
}

/**
 * Tells of the members of the object that a text is, none when it is no object.
 * @returns how deep the text nests
 */
function scan(text: string, onMember: (key: string, start: number, end: number) => void): number {
  let isObject = false, depth = 0, deepest = 0, start = -1;
  let key: string | null = null;
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at);
    switch (character) {
      case QUOTE: {
        const end = endOfString(text, at);
        if (depth === 1 && isObject && start < 0) key = keyOf(text.slice(at + 1, end));
        at = end;
        break;
      }
      case OPEN_OBJECT:
      case OPEN_ARRAY:
        if (++depth > deepest) deepest = depth;
        if (depth === 1) isObject = character === OPEN_OBJECT;
        break;
      case COLON:
        if (depth === 1 && start < 0) start = at + 1;
        break;
      case COMMA:
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        if (depth === 1) {
          if (isObject && key !== null && start >= 0) onMember(key, start, at);
          key = null;
          start = -1;
        }
        if (character !== COMMA) depth--;
    }
  }
  return deepest;
}

/** The object whose members have these texts as values. */
export function objectText(members: Map<string, string>): string {
  let text = "";
  for (const [key, value] of members) {
    text += `${text === "" ? "{" : ","}${JSON.stringify(key)}:${value}`;
  }
  return text === "" ? "{}" : `${text}}`;
}

/** On one line: in valid JSON a line break stands only between tokens, where a space does as well. */
export function oneLine(text: string): string {
  return /[\r\n]/.test(text) ? text.replace(/[\r\n]/g, " ") : text;
}

/** Index of the quote that ends the string which begins at `start`; the text's end without one. */
function endOfString(text: string, start: number): number {
  for (let end = start;;) {
    end = text.indexOf('"', end + 1);
    if (end < 0) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return end;
  }
}

/** A key may be written with escapes (`"\u0069d"`), and must be found all the same. */
function keyOf(written: string): string | null {
  if (!written.includes("\\")) return written;
  try {
    return JSON.parse(`"${written}"`);
  } catch {
    return null;
  }
}
