/**
 * As much of DNS as a server needs that answers by itself and asks nobody: one question in, one
 * answer out. Of our own because the packages for it parse every record type there is.
 * @see https://www.rfc-editor.org/rfc/rfc1035#section-4
 */

export interface Question {
  id: number;
  recursionDesired: boolean;
  /** Lower case, without the root's dot; bytes that no host name has stand as `?`. */
  name: string;
  type: number;
  class: number;
  /** The question as it was asked: it is given back byte by byte (0x20 case randomisation). */
  bytes: Uint8Array;
}

export const Type = { A: 1 } as const;
export const CLASS_IN = 1;
export const Code = { noError: 0, formatError: 1, noSuchName: 3, notImplemented: 4 } as const;

const HEADER_BYTES = 12;

/** Short, so that a program that holds on to answers sees a changed allow list soon. */
const TTL_S = 30;

/**
 * Reads a query. Null for what must not be answered (too short, or itself an answer: two servers
 * could send such to and fro for ever), a code for what is answered by that code alone.
 */
export function readQuery(message: Uint8Array): Question | { id: number; code: number } | null {
  if (message.length < HEADER_BYTES) return null;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const id = view.getUint16(0);
  const flags = view.getUint16(2);
  if (flags & 0x8000) return null;
  if ((flags >> 11 & 0xf) !== 0) return { id, code: Code.notImplemented };
  const wrong = { id, code: Code.formatError };
  if (view.getUint16(4) !== 1) return wrong;
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    if (at >= message.length) return wrong;
    const length = message[at++];
    if (length === 0) break;
    // 64 and more is a pointer into what came before, and nothing came before the question.
    if (length > 63 || at + length > message.length) return wrong;
    labels.push(labelText(message.subarray(at, at + length)));
    at += length;
    if (at - HEADER_BYTES > 254) return wrong;
  }
  if (at + 4 > message.length) return wrong;
  return {
    id,
    recursionDesired: (flags & 0x0100) !== 0,
    name: labels.join("."),
    type: view.getUint16(at),
    class: view.getUint16(at + 2),
    bytes: message.slice(HEADER_BYTES, at + 4),
  };
}

/** A dot inside a label would make two names look like one. */
function labelText(label: Uint8Array): string {
  return String.fromCharCode(...label).toLowerCase().replaceAll(/[^a-z0-9_-]/g, "?");
}

/** An answer with an A record for each of `addresses`, which may be none. */
export function writeAnswer(question: Question, code: number, addresses: string[]): Uint8Array {
  const answer = new Uint8Array(HEADER_BYTES + question.bytes.length + 16 * addresses.length);
  const view = new DataView(answer.buffer);
  view.setUint16(0, question.id);
  // An answer, authoritative, recursion available (a resolver may discard one without).
  view.setUint16(2, 0x8480 | (question.recursionDesired ? 0x0100 : 0) | code);
  view.setUint16(4, 1);
  view.setUint16(6, addresses.length);
  answer.set(question.bytes, HEADER_BYTES);
  let at = HEADER_BYTES + question.bytes.length;
  for (const address of addresses) {
    view.setUint16(at, 0xc000 | HEADER_BYTES); // the question's name
    view.setUint16(at + 2, Type.A);
    view.setUint16(at + 4, CLASS_IN);
    view.setUint32(at + 6, TTL_S);
    view.setUint16(at + 10, 4);
    answer.set(address.split(".").map(Number), at + 12);
    at += 16;
  }
  return answer;
}

/** An answer that is a header with a code and nothing else. */
export function writeError({ id, code }: { id: number; code: number }): Uint8Array {
  const answer = new Uint8Array(HEADER_BYTES);
  const view = new DataView(answer.buffer);
  view.setUint16(0, id);
  view.setUint16(2, 0x8080 | code);
  return answer;
}
