/**
 * JSON of some size, as the bytes that it came in. A string of a mebibyte, the values in it and bytes of
 * it again cost several times what one look at the bytes does, most of all when it is not ASCII
 * (docs/measured.md); and hardly any of it is ever read on the way from a server to a client.
 */
import { DEPTH_LIMIT } from "./json_text.ts";

/** From here on a message is worth to be treated as bytes. */
export const LARGE_BYTES = 32 * 1024;

/** Where a value stands. */
export interface Span {
  start: number;
  end: number;
}

/**
 * Told of a member of an object when its value has ended, so that the members within the value come before.
 * @param depth how many objects and arrays are open around it
 * @param keyStart after the quote; the key as it is written
 */
export type OnMember = (
  depth: number,
  keyStart: number,
  keyEnd: number,
  start: number,
  end: number,
) => void;

const QUOTE = 0x22, BACKSLASH = 0x5c, COLON = 0x3a, COMMA = 0x2c, OPEN_OBJECT = 0x7b;
const OPEN_ARRAY = 0x5b, MINUS = 0x2d, PLUS = 0x2b, DOT = 0x2e, ZERO = 0x30, NINE = 0x39;
const LOWER_E = 0x65, LOWER_F = 0x66, LOWER_N = 0x6e, LOWER_T = 0x74, LOWER_U = 0x75;
/** From an opening bracket to its closing one. */
const TO_CLOSE = 2;

/**
 * Whether bytes are one value of JSON (RFC 8259) and nested no deeper than {@link DEPTH_LIMIT}. Not whether
 * they are UTF-8: in strings bytes over 127 pass.
 *
 * @param deepest members are told of at this depth and above
 */
export function scanJson(bytes: Uint8Array, deepest: number, onMember: OnMember): boolean {
  return scan(bytes, deepest, onMember, checkedEnd);
}

/**
 * As {@link scanJson}, but for what stands in strings. So bytes pass that no reader takes for JSON; but all who
 * do take them for it find in them the one value that was found here, and the same members.
 */
export function skimJson(bytes: Uint8Array, deepest: number, onMember: OnMember): boolean {
  return scan(bytes, deepest, onMember, skippedEnd);
}

/** Index of the quote that ends the string whose first character is at `at`; -1 when it is none. */
type EndOfString = (bytes: Uint8Array, at: number) => number;

function scan(
  bytes: Uint8Array,
  deepest: number,
  onMember: OnMember,
  endOfString: EndOfString,
): boolean {
  const isObject = new Uint8Array(DEPTH_LIMIT + 1);
  const keyStarts = new Int32Array(DEPTH_LIMIT + 1), keyEnds = new Int32Array(DEPTH_LIMIT + 1);
  const starts = new Int32Array(DEPTH_LIMIT + 1);
  let depth = 0, at = afterSpace(bytes, 0);
  for (let comesKey = false;;) {
    if (comesKey) {
      if (bytes[at] !== QUOTE) return false;
      const end = endOfString(bytes, at + 1);
      if (end < 0) return false;
      keyStarts[depth] = at + 1;
      keyEnds[depth] = end;
      at = afterSpace(bytes, end + 1);
      if (bytes[at] !== COLON) return false;
      at = starts[depth] = afterSpace(bytes, at + 1);
    }
    const first = bytes[at];
    if (first === OPEN_OBJECT || first === OPEN_ARRAY) {
      if (++depth > DEPTH_LIMIT) return false;
      isObject[depth] = first === OPEN_OBJECT ? 1 : 0;
      at = afterSpace(bytes, at + 1);
      if (bytes[at] !== first + TO_CLOSE) {
        comesKey = first === OPEN_OBJECT;
        continue;
      }
      depth--;
      at++;
    } else {
      at = first === QUOTE ? endOfString(bytes, at + 1) + 1 : endOfPlain(bytes, at);
      if (at <= 0) return false;
    }
    // A value has ended, and with it perhaps what it stands in.
    for (;;) {
      if (depth === 0) return afterSpace(bytes, at) === bytes.length;
      if (depth <= deepest && isObject[depth] === 1) {
        onMember(depth, keyStarts[depth], keyEnds[depth], starts[depth], at);
      }
      at = afterSpace(bytes, at);
      if (bytes[at] === COMMA) break;
      if (bytes[at] !== (isObject[depth] === 1 ? OPEN_OBJECT : OPEN_ARRAY) + TO_CLOSE) return false;
      depth--;
      at++;
    }
    at = afterSpace(bytes, at + 1);
    comesKey = isObject[depth] === 1;
  }
}

/** The key of a member that {@link scanJson} told of. */
export function keyAt(bytes: Uint8Array, start: number, end: number): string {
  const written = decoded(bytes.subarray(start, end));
  return written.includes("\\") ? JSON.parse(`"${written}"`) : written;
}

/** Whether the bytes at `start` are those of a word of ASCII. */
export function isWord(bytes: Uint8Array, start: number, end: number, word: string): boolean {
  if (end - start !== word.length) return false;
  for (let i = 0; i < word.length; i++) {
    if (bytes[start + i] !== word.charCodeAt(i)) return false;
  }
  return true;
}

/** Bytes in UTF-8 as a string, of which a mark of the byte order at the beginning is a part. */
export function decoded(bytes: Uint8Array): string {
  return DECODER.decode(bytes);
}

const DECODER = new TextDecoder("utf-8", { ignoreBOM: true });

/** One after the other. */
export function joined(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(lengthOf(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function lengthOf(parts: Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

function tableOf(characters: string): Uint8Array {
  return Uint8Array.from(
    { length: 256 },
    (_, byte) => +characters.includes(String.fromCharCode(byte)),
  );
}

const IS_ESCAPED = tableOf(`"\\/bfnrt`), IS_HEX = tableOf("0123456789abcdefABCDEF");
const IS_SPACE = tableOf(" \n\r\t");
/** What is looked at no closer where strings are skipped. */
const IS_SKIPPED = tableOf(`"\\`).map((is) => 1 - is);
/** What stands for itself in a string. */
const IS_PLAIN = IS_SKIPPED.map((is, byte) => byte < 0x20 ? 0 : is);

function afterSpace(bytes: Uint8Array, at: number): number {
  while (at < bytes.length && IS_SPACE[bytes[at]] === 1) at++;
  return at;
}

/** A string's end, when each of its characters is to be looked at. */
function checkedEnd(bytes: Uint8Array, at: number): number {
  const { length } = bytes;
  for (;;) {
    while (at < length && IS_PLAIN[bytes[at]] === 1) at++;
    if (at >= length) return -1;
    if (bytes[at] === QUOTE) return at;
    if (bytes[at] !== BACKSLASH || at + 1 >= length) return -1;
    const escaped = bytes[at + 1];
    if (IS_ESCAPED[escaped] === 1) at += 2;
    else {
      if (escaped !== LOWER_U || at + 6 > length) return -1;
      for (let i = at + 2; i < at + 6; i++) if (IS_HEX[bytes[i]] === 0) return -1;
      at += 6;
    }
  }
}

/** A string that did not end after so many bytes is a long one. */
const SHORT_BYTES = 64;
/** Where quotes in a string stand too close for searching, it is read so far. */
const READ_BYTES = 1024;

/** A string's end, when nothing else is asked: of long ones found by V8's search, three times as fast. */
function skippedEnd(bytes: Uint8Array, at: number): number {
  const { length } = bytes;
  for (let until = Math.min(at + SHORT_BYTES, length);;) {
    while (at < until && IS_SKIPPED[bytes[at]] === 1) at++;
    if (at < until) {
      if (bytes[at] === QUOTE) return at;
      at += 2;
      continue;
    }
    const quote = bytes.indexOf(QUOTE, at);
    if (quote < 0) return -1;
    // Backslashes before `at` belong to escapes that were read.
    let backslashes = 0;
    while (quote - backslashes > at && bytes[quote - backslashes - 1] === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return quote;
    until = Math.min(quote + (quote - at < READ_BYTES / 4 ? READ_BYTES : 1), length);
    at = quote + 1;
  }
}

/** Index after the number or word that begins at `at`; -1 when there is none. */
function endOfPlain(bytes: Uint8Array, at: number): number {
  switch (bytes[at]) {
    case LOWER_T:
      return endOfWord(bytes, at, "true");
    case LOWER_F:
      return endOfWord(bytes, at, "false");
    case LOWER_N:
      return endOfWord(bytes, at, "null");
    default:
      return endOfNumber(bytes, at);
  }
}

function endOfWord(bytes: Uint8Array, at: number, word: string): number {
  const end = at + word.length;
  return isWord(bytes, at, end, word) ? end : -1;
}

function endOfNumber(bytes: Uint8Array, at: number): number {
  const { length } = bytes;
  if (bytes[at] === MINUS) at++;
  const whole = at;
  at = afterDigits(bytes, at);
  if (at === whole || bytes[whole] === ZERO && at > whole + 1) return -1;
  if (at < length && bytes[at] === DOT) {
    const fraction = at + 1;
    at = afterDigits(bytes, fraction);
    if (at === fraction) return -1;
  }
  if (at < length && (bytes[at] | 0x20) === LOWER_E) {
    at++;
    if (at < length && (bytes[at] === PLUS || bytes[at] === MINUS)) at++;
    const exponent = at;
    at = afterDigits(bytes, exponent);
    if (at === exponent) return -1;
  }
  return at;
}

function afterDigits(bytes: Uint8Array, at: number): number {
  while (at < bytes.length && bytes[at] >= ZERO && bytes[at] <= NINE) at++;
  return at;
}
