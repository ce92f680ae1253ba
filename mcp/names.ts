/** The names under which an agent sees the tools of many servers. */

/** Longest name that every client and model takes (the strictest allow 64 and add a prefix). */
const NAME_LIMIT = 60;

/** A tool by its server's slug and its own name. */
interface Named {
  serverSlug: string;
  name: string;
  serverId: string;
}

/**
 * Names a toolbelt's tools `server__tool`, in `[a-zA-Z0-9_-]`, at most 60 characters. A name that had
 * to be altered, or that would be another's, gets a hash of what it stands for, so it does not depend
 * on what else is in the toolbelt but for a true collision.
 *
 * @returns the tools by public name, in the given order
 */
export function publicNames<T extends Named>(tools: T[]): Map<string, T> {
  const plain = new Map<string, number>();
  for (const tool of tools) {
    const name = plainName(tool);
    plain.set(name, (plain.get(name) ?? 0) + 1);
  }
  const named = new Map<string, T>();
  for (const tool of tools) {
    const name = plainName(tool);
    const isExact = isPlain(tool) && plain.get(name) === 1;
    named.set(isExact ? name : hashedName(tool), tool);
  }
  return named;
}

function plainName({ serverSlug, name }: Named): string {
  return `${serverSlug}__${name}`;
}

/** True when the plain name is fit as it is, and can be read back in one way only. */
function isPlain(tool: Named): boolean {
  const name = plainName(tool);
  return name.length <= NAME_LIMIT && /^[a-zA-Z0-9_-]+$/.test(name) && !HASHED.test(name);
}

/** What a hashed name looks like: kept free of plain names, so that the two never meet. */
const HASHED = /_h[0-9a-z]{10}$/;

function hashedName(tool: Named): string {
  const suffix = `_h${shortHash(`${tool.serverId}\u0000${tool.name}`)}`;
  const readable = plainName(tool).replace(/[^a-zA-Z0-9_-]+/g, "_");
  return readable.slice(0, NAME_LIMIT - suffix.length) + suffix;
}

/**
 * 10 characters of base 36 from two 32-bit FNV-1a hashes: short, the same everywhere and at once. It
 * guards nothing: a server that made two of its own tools collide would only hide one of them.
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
