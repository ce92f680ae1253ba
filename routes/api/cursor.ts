/** Cursors: where the last part of a list ended, in a form that is nobody's business. */
import { z } from "zod";
import { Invalid } from "../../models/errors.ts";

export function cursorOf(place: unknown): string {
  const bytes = new TextEncoder().encode(JSON.stringify(place));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_")
    .replace(/=+$/, "");
}

/** @throws {Invalid} it is none of this list's */
export function placeIn<T>(cursor: string | undefined, schema: z.ZodType<T>): T | undefined {
  if (cursor === undefined) return undefined;
  try {
    const text = atob(cursor.replaceAll("-", "+").replaceAll("_", "/"));
    return schema.parse(JSON.parse(text));
  } catch {
    const message = "Give the nextCursor of an answer to the same question, as it was";
    throw new Invalid(message, { cursor: message });
  }
}

/**
 * A part of what a model reads whole, in the order in which it was made (ids are of version 7): what is
 * made or removed between two parts neither hides another nor shows it twice.
 */
export function part<Item extends { id: string }>(
  all: Item[],
  { limit, cursor }: { limit: number; cursor?: string },
): { items: Item[]; nextCursor: string | null } {
  const after = placeIn(cursor, z.uuid());
  const rest = all.toSorted((a, b) => a.id < b.id ? -1 : 1)
    .filter(({ id }) => after === undefined || id > after);
  const items = rest.slice(0, limit);
  return { items, nextCursor: rest.length > limit ? cursorOf(items.at(-1)!.id) : null };
}
