/** What a server lists, all pages of it, within limits and checked as far as Mooring looks at it. */
import { isObject, type JsonRpcResponse } from "./connection.ts";

/** A request of DTMA's own. */
export type Ask = (method: string, params: Record<string, unknown>) => Promise<JsonRpcResponse>;

const METHODS = {
  tools: "tools/list",
  prompts: "prompts/list",
  resourceTemplates: "resources/templates/list",
};

const PAGES_LIMIT = 100;
const ITEMS_LIMIT = 1000;

/** In characters, of what is reported beside the tools. */
const LENGTH_LIMIT = 1024 * 1024;

/**
 * Items as the server wrote them, but that numbers are JavaScript's.
 *
 * @param mayLack a server that does not know the method has none
 * @throws Error with a message for a person
 */
export async function listAll<T extends { name: string }>(
  ask: Ask,
  key: keyof typeof METHODS,
  { mayLack = false }: { mayLack?: boolean } = {},
): Promise<T[]> {
  const what = key === "resourceTemplates" ? "resource templates" : key;
  const items: T[] = [];
  const cursors = new Set<string>();
  let cursor: string | undefined;
  for (let page = 0; page < PAGES_LIMIT; page++) {
    const params = cursor === undefined ? {} : { cursor };
    const { result, error } = await ask(METHODS[key], params);
    if (error?.code === -32601 && mayLack) return [];
    // A cursor like any (2026-07-28, server/utilities/pagination), which some servers write after the last page.
    if (cursor === "" && (error?.code === -32602 || result?.nextCursor === "")) return items;
    if (error) throw new Error(`${error.message} (${error.code})`);
    // One that is not known is no result (2026-07-28, basic#resulttype).
    const { resultType = "complete" } = result!;
    if (resultType !== "complete") {
      const type = JSON.stringify(resultType).slice(0, 100);
      throw new Error(
        `Its answer to ${METHODS[key]} is of the type ${type}, which Mooring does not know`,
      );
    }
    const listed = result![key];
    if (!Array.isArray(listed)) throw new Error(`Its answer to ${METHODS[key]} has no ${what}`);
    for (const item of listed) {
      if (!isObject(item) || typeof item.name !== "string") {
        throw new Error(`It lists one of its ${what} without a name`);
      }
      items.push(item as T);
    }
    if (items.length > ITEMS_LIMIT) {
      throw new Error(`It lists over ${ITEMS_LIMIT} ${what}, which is the limit`);
    }
    const { nextCursor } = result!;
    if (nextCursor === undefined || nextCursor === null) return items;
    cursor = String(nextCursor);
    if (cursors.has(cursor)) throw new Error(`Its pages of ${what} go round in a circle`);
    cursors.add(cursor);
  }
  throw new Error(`It lists its ${what} on over ${PAGES_LIMIT} pages, which is the limit`);
}

/** The items, if they are not too long to be reported. */
export function bounded<T>(items: T[]): T[] {
  if (JSON.stringify(items).length <= LENGTH_LIMIT) return items;
  throw new Error("What it lists is over 1 MiB, which is the limit");
}
