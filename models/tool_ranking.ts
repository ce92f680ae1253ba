/** Ranks tools by how well they fit a few words, by Postgres's full text search. */
import type { ToolDefinition } from "../dtma/protocol.ts";
import type { Database } from "./db.ts";
import { withoutNul } from "./events.ts";

/** Of a definition's words so many characters are looked at. */
const TEXT_LIMIT = 2000;

/** Of each tool its words as Postgres has them: a `tsvector`'s text. */
export type ToolIndex = string[];

/**
 * Reads the words of tools, which takes most of a search's time: to be kept for the next. A word in a name
 * or title counts most, then one in the description, then one among the arguments. What the agent sees is
 * what is read, so renamed tools are found by their new names.
 */
export async function indexTools(
  db: Database,
  tools: { name: string; definition: ToolDefinition }[],
): Promise<ToolIndex> {
  const names: string[] = [], descriptions: string[] = [], args: string[] = [];
  for (const { name, definition } of tools) {
    names.push(words(`${name} ${text(definition.title)}`));
    descriptions.push(words(text(definition.description)));
    args.push(words(argumentWords(definition.inputSchema)));
  }
  const rows = await db.asApp<{ vector: string }[]>`
    select (setweight(to_tsvector('english', name), 'A') || setweight(to_tsvector('english', description), 'B')
        || setweight(to_tsvector('english', args), 'C'))::text as vector
    from unnest(${names}::text[], ${descriptions}::text[], ${args}::text[])
      with ordinality as t (name, description, args, ordinality)
    order by ordinality`;
  return rows.map(({ vector }) => vector);
}

/**
 * The tools that have any of a query's words, best first.
 *
 * @returns indexes into the tools that were indexed
 */
export async function rankTools(
  db: Database,
  index: ToolIndex,
  query: string,
  limit: number,
): Promise<number[]> {
  // Any of the words: a model asks in sentences, and no tool has all of them.
  const [{ lexemes }] = await db.asApp<{ lexemes: string[] }[]>`
    select tsvector_to_array(to_tsvector('english', ${words(query)})) as lexemes`;
  const quoted = lexemes.map((lexeme) =>
    `'${lexeme.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`
  );
  const found = [...index.keys()].filter((at) => quoted.some((each) => index[at].includes(each)));
  if (found.length === 0) return [];
  const rows = await db.asApp<{ index: number }[]>`
    with asked as (select ${quoted.join(" | ")}::tsquery as query)
    select index from unnest(${found}::int4[], ${
    found.map((at) => index[at])
  }::text[]) as t (index, vector),
      asked, lateral (select vector::tsvector as search) as s
    where search @@ query
    order by ts_rank(search, query, 1) desc, index limit ${limit}`;
  return rows.map((row) => row.index);
}

function argumentWords(schema: unknown): string {
  const properties = (schema as { properties?: unknown } | undefined)?.properties;
  if (typeof properties !== "object" || properties === null) return "";
  return Object.entries(properties).map(([name, property]) =>
    `${name} ${text((property as { description?: unknown } | null)?.description)}`
  ).join(" ");
}

/** Names are words joined by marks or capitals: `create_issue`, `getIssue`. */
function words(value: string): string {
  return withoutNul(value.slice(0, TEXT_LIMIT)).toWellFormed()
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2").replace(/[_\-./:]+/g, " ");
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
