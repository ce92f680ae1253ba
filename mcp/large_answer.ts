/**
 * Large results on their way to a client: the bytes that their server wrote, looked at once and made a string
 * only where something in them has to be translated.
 */
import { Buffer, isAscii, isUtf8 } from "node:buffer";
import {
  decoded,
  isWord,
  joined,
  keyAt,
  objectMembers,
  skimJson,
  type Span,
} from "../dtma/protocol.ts";
import type { Answer } from "./router.ts";

/** How deep a resource's URI stands in an answer: `messages`, a message, its `content`, a `resource`. */
const URI_DEPTH = 5;
/** Of a block in `content`. */
const BLOCK_DEPTH = 3;

export class LargeAnswer implements Answer {
  readonly kind = "result";
  #text: string | null = null;

  private constructor(
    readonly bytes: Uint8Array,
    readonly members: ReadonlyMap<string, Span>,
    /** Of the blocks in `content`, as they are written. */
    readonly blockTypes: ReadonlySet<string>,
    /** Something in it, where a resource may stand, has a URI. */
    readonly namesUris: boolean,
    readonly isWhole = true,
  ) {}

  /** @returns null of what is no object of JSON in UTF-8, or nests too deep */
  static of(bytes: Uint8Array): LargeAnswer | null {
    if (bytes[0] !== OPEN_OBJECT || !isUtf8(bytes)) return null;
    const members = new Map<string, Span>();
    const types: Span[] = [];
    let namesUris = false;
    const isJson = skimJson(bytes, URI_DEPTH, (depth, keyStart, keyEnd, start, end) => {
      if (depth === 1) members.set(keyAt(bytes, keyStart, keyEnd), { start, end });
      else if (depth === BLOCK_DEPTH && isWord(bytes, keyStart, keyEnd, "type")) {
        types.push({ start, end });
      } else if (isWord(bytes, keyStart, keyEnd, "uri")) namesUris = true;
    });
    if (!isJson) return null;
    const content = members.get("content") ?? { start: 0, end: 0 };
    const ofBlocks = types.filter(({ start }) => start > content.start && start < content.end);
    const blockTypes = ofBlocks.map(({ start, end }) => decoded(bytes.subarray(start, end)));
    return new LargeAnswer(bytes, members, new Set(blockTypes), namesUris);
  }

  get text(): string {
    return this.#text ??= decoded(joined(this.parts()));
  }

  get size(): number {
    return this.bytes.length;
  }

  /** A member's text. */
  member(key: string): string | undefined {
    const span = this.members.get(key);
    return span && decoded(this.bytes.subarray(span.start, span.end));
  }

  has(key: string): boolean {
    return this.members.has(key);
  }

  /** Whether a member is an object. */
  isObject(key: string): boolean {
    const span = this.members.get(key);
    return span !== undefined && this.bytes[span.start] === OPEN_OBJECT;
  }

  without(keys: readonly string[]): LargeAnswer {
    const members = new Map(this.members);
    for (const key of keys) members.delete(key);
    return new LargeAnswer(this.bytes, members, this.blockTypes, this.namesUris, false);
  }

  /** Its JSON, one part after the other. */
  parts(): Uint8Array[] {
    if (this.isWhole) return [this.bytes];
    const parts: Uint8Array[] = [];
    for (const [key, { start, end }] of this.members) {
      const before = parts.length === 0 ? "{" : ",";
      parts.push(encoded(`${before}${JSON.stringify(key)}:`), this.bytes.subarray(start, end));
    }
    parts.push(encoded(parts.length === 0 ? "{}" : "}"));
    return parts;
  }

  /** The text is a getter's. */
  toJSON(): Answer {
    return { kind: this.kind, text: this.text };
  }
}

const OPEN_OBJECT = 0x7b;

function encoded(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The text of a member of a result. */
export function memberOf(answer: Answer, key: string): string | undefined {
  return answer instanceof LargeAnswer ? answer.member(key) : objectMembers(answer.text).get(key);
}

/** Of an answer's text, in bytes of UTF-8. */
export function sizeOf(answer: Answer): number {
  return answer instanceof LargeAnswer ? answer.size : Buffer.byteLength(answer.text);
}

/**
 * The response to a request as {@link envelope} has it: as text where that is ASCII, since `Response` copies
 * bytes, and buffers of this size are cleared away at much greater cost than strings.
 *
 * @param id its text
 */
export function largeEnvelope(id: string, answer: LargeAnswer): string | Uint8Array<ArrayBuffer> {
  const parts = answer.parts();
  // A key that was written with an escape has none any more.
  if (parts.every((part) => isAscii(part))) {
    const texts = parts.map(({ buffer, byteOffset, length }) =>
      Buffer.from(buffer as ArrayBuffer, byteOffset, length).toString("latin1")
    );
    return `{"jsonrpc":"2.0","id":${id},"result":${texts.join("")}}`;
  }
  return joined([
    encoded(`{"jsonrpc":"2.0","id":${id},"result":`),
    ...parts,
    encoded("}"),
  ]);
}
