/**
 * What was said in a call, fit to be kept: without the workspace's secrets, without what looks like a
 * secret, and of a bounded size. It errs on the side of masking.
 */

/** What stands in place of what is masked. */
export const MASK = "•••";

/** A value as it may be kept. */
export interface Masked {
  value: unknown;
  /** How many values were masked, whole or in part. */
  masked: number;
  /** Something was left out for its size. */
  isCut: boolean;
}

/** Masks values by the secrets that are known and by how they look. */
export class Masking {
  readonly #whole = new Set<string>();
  readonly #parts: RegExp | null;

  /** @param secrets the values of a workspace's secrets */
  constructor(secrets: Iterable<string>) {
    const parts = new Set<string>();
    for (const secret of secrets) {
      if (secret === "") continue;
      this.#whole.add(secret);
      // A shorter one stands in half of all words: it is masked where it is all of a value.
      if (secret.length < SHORTEST_PART) continue;
      for (const form of formsOf(secret)) parts.add(form);
    }
    const longestFirst = [...parts].sort((a, b) => b.length - a.length);
    this.#parts = longestFirst.length
      ? new RegExp(
        longestFirst.map((part) => part.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|"),
        "g",
      )
      : null;
  }

  /** @param limit in characters of all texts together */
  of(value: unknown, limit: number): Masked {
    const left = { characters: limit, nodes: NODES_LIMIT, masked: 0, isCut: false };
    const masked = this.#value(value, left, 0);
    return { value: masked, masked: left.masked, isCut: left.isCut };
  }

  #value(value: unknown, left: Left, depth: number): unknown {
    if (left.nodes-- <= 0 || depth > DEPTH_LIMIT) return this.#cut(left);
    if (typeof value === "string") return this.#short(this.#text(value, left, depth), left);
    if (typeof value === "number") return this.#whole.has(String(value)) ? this.#mask(left) : value;
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) {
      const kept: unknown[] = [];
      for (const item of value) {
        if (left.characters <= 0 || left.nodes <= 0) {
          left.isCut = true;
          kept.push(`… (${value.length - kept.length} more)`);
          break;
        }
        kept.push(this.#value(item, left, depth + 1));
      }
      return kept;
    }
    return this.#object(value as Record<string, unknown>, left, depth);
  }

  #object(value: Record<string, unknown>, left: Left, depth: number): unknown {
    // As headers and forms are often written: { name: "Authorization", value: "…" }.
    const called = [value.name, value.key, value.header].find((each) => typeof each === "string");
    const kept: [string, unknown][] = [];
    for (const [name, item] of Object.entries(value)) {
      if (left.characters <= 0 || left.nodes <= 0) {
        left.isCut = true;
        break;
      }
      const shown = this.#short(this.#known(name, left), left);
      if (isSecretName(name) || name === "value" && called && isSecretName(called as string)) {
        kept.push([shown, item === null || item === "" ? item : this.#mask(left)]);
      } else if ((name === "data" || name === "blob") && isBase64(item)) {
        kept.push([shown, this.#encoded(item, value.mimeType, left)]);
      } else {
        kept.push([shown, this.#value(item, left, depth + 1)]);
      }
    }
    // Not by assignment, to which __proto__ means something else.
    return Object.fromEntries(kept);
  }

  /** A picture or a sound whole or not at all; other bytes are not kept, since nothing in them is masked. */
  #encoded(data: string, mimeType: unknown, left: Left): string {
    const isMedia = typeof mimeType === "string" && /^(image|audio)\//.test(mimeType);
    if (isMedia && data.length <= left.characters) {
      left.characters -= data.length;
      return data;
    }
    left.isCut = true;
    return "";
  }

  /** Text without secrets; one that is JSON is masked as such. */
  #text(text: string, left: Left, depth: number): string {
    if (this.#whole.has(text)) return this.#mask(left);
    if (/^\s*[{[]/.test(text)) {
      try {
        const value: unknown = JSON.parse(text);
        // Its size counts once, as the text.
        const inner = { ...left, characters: text.length };
        const masked = this.#value(value, inner, depth + 1);
        const isChanged = inner.masked > left.masked || inner.isCut && !left.isCut;
        Object.assign(left, { nodes: inner.nodes, masked: inner.masked, isCut: inner.isCut });
        return isChanged ? JSON.stringify(masked, null, text.includes("\n") ? 2 : 0) : text;
      } catch {
        // Text that only begins like it.
      }
    }
    return this.#known(text, left);
  }

  #known(text: string, left: Left): string {
    let masked = this.#parts ? text.replace(this.#parts, MASK) : text;
    for (const [pattern, replacement] of PATTERNS) masked = masked.replace(pattern, replacement);
    if (masked !== text) left.masked++;
    return masked;
  }

  #short(text: string, left: Left): string {
    if (text.length <= left.characters) {
      left.characters -= text.length;
      return text;
    }
    const kept = Math.max(left.characters, 0);
    left.characters = 0;
    left.isCut = true;
    return `${text.slice(0, kept).toWellFormed()}… (cut: ${text.length} characters)`;
  }

  #mask(left: Left): string {
    left.masked++;
    return MASK;
  }

  #cut(left: Left): string {
    left.isCut = true;
    return "…";
  }
}

interface Left {
  characters: number;
  nodes: number;
  masked: number;
  isCut: boolean;
}

const SHORTEST_PART = 6;
const NODES_LIMIT = 20_000;
const DEPTH_LIMIT = 64;

/** How a secret may stand in a text. */
function formsOf(secret: string): string[] {
  const bytes = new TextEncoder().encode(secret);
  const base64 = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return [
    secret,
    JSON.stringify(secret).slice(1, -1),
    encodeURIComponent(secret.toWellFormed()),
    base64.replace(/=+$/, ""),
  ];
}

const NAMES =
  /password|passwd|passphrase|passcode|^pass$|pwd$|secret|token$|apikey|accesskey|privatekey|credential|authorization|^auth$|bearer|cookie|otp$|^pin$/;

/** Whether a member's name says that its value is a secret. */
export function isSecretName(name: string): boolean {
  return NAMES.test(name.toLowerCase().replace(/[^a-z0-9]/g, ""));
}

/** Every repetition has an end: what they are held against is anybody's. */
const PATTERNS: [RegExp, string][] = [
  [
    /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g,
    MASK,
  ],
  [/\b(Bearer|Basic)\s{1,4}[A-Za-z0-9._~+/=-]{8,4000}/gi, `$1 ${MASK}`],
  [/\beyJ[\w-]{8,2000}\.[\w-]{8,4000}\.[\w-]{0,2000}/g, MASK],
  [
    /\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_\w{20,255}|glpat-[\w-]{16,255}|sk-[\w-]{16,255}|xox[abeprs]-[\w-]{10,255}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,60}|npm_[A-Za-z0-9]{30,60})/g,
    MASK,
  ],
  [/(:\/\/[^\s:@/]{1,255}:)[^\s@/]{1,255}@/g, `$1${MASK}@`],
  [
    /((?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|authorization|credential)["']?\s{0,4}[=:]\s{0,4})(?:"[^"\n]{1,4000}"|'[^'\n]{1,4000}'|[^\s,;&"'}<>]{1,4000})/gi,
    `$1${MASK}`,
  ],
];

function isBase64(value: unknown): value is string {
  return typeof value === "string" && value.length > 0 && /^[A-Za-z0-9+/=_\s-]*$/.test(value);
}
