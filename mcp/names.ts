/** The names under which an agent sees what many servers have. */

/** Longest name that every client and model takes (the strictest allow 64 and add a prefix). */
const NAME_LIMIT = 60;

/** A tool or prompt by its server's slug and its own name. */
interface Named {
  serverSlug: string;
  name: string;
  serverId: string;
  /** In place of its own name. */
  shownName?: string;
}

/**
 * Names a toolbelt's tools (or prompts) `server__tool`, in `[a-zA-Z0-9_-]`, at most 60 characters. A
 * name that had to be altered, or that would be another's, gets a hash of what it stands for, so it
 * does not depend on what else is in the toolbelt but for a true collision.
 *
 * @returns the items by public name, in the given order
 */
export function publicNames<T extends Named>(items: T[]): Map<string, T> {
  const plain = new Map<string, number>();
  for (const item of items) {
    const name = plainName(item);
    plain.set(name, (plain.get(name) ?? 0) + 1);
  }
  const named = new Map<string, T>();
  for (const item of items) {
    const name = plainName(item);
    const isExact = isPlain(item) && plain.get(name) === 1;
    let free = isExact ? name : hashedName(item);
    for (let turn = 1; named.has(free); turn++) free = hashedName(item, turn);
    named.set(free, item);
  }
  return named;
}

function plainName({ serverSlug, name, shownName = name }: Named): string {
  return `${serverSlug}__${shownName}`;
}

/** True when the plain name is fit as it is, and can be read back in one way only. */
function isPlain(item: Named): boolean {
  const name = plainName(item);
  return name.length <= NAME_LIMIT && /^[a-zA-Z0-9_-]+$/.test(name) && !HASHED.test(name);
}

/** What a hashed name looks like: kept free of plain names, so that the two never meet. */
const HASHED = /_h[0-9a-z]{10}$/;

/** @param turn grows while another item has the name: as good as never, but none must be hidden */
function hashedName(item: Named, turn = 0): string {
  const suffix = `_h${shortHash(`${item.serverId}\u0000${item.name}${"\u0000".repeat(turn)}`)}`;
  const readable = plainName(item).replace(/[^a-zA-Z0-9_-]+/g, "_");
  return readable.slice(0, NAME_LIMIT - suffix.length) + suffix;
}

/**
 * 10 characters of base 36 from two 32-bit FNV-1a hashes: short, the same everywhere and at once. It
 * guards nothing: of two that collide the second gets another one.
 */
function shortHash(text: string): string {
  let a = 0x811c9dc5, b = 0x01000193;
  for (let i = 0; i < text.length; i++) {
    a = Math.imul(a ^ text.charCodeAt(i), 0x01000193);
    b = Math.imul(b ^ (text.charCodeAt(i) + 31 * i), 0x85ebca6b);
  }
  const digits = (n: number) => (n >>> 0).toString(36).padStart(7, "0").slice(-5);
  return digits(a) + digits(b);
}
