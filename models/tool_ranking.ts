/** Ranks tools by how well they fit a few words, by Postgres's full text search. */
import type { ToolDefinition } from "../dtma/protocol.ts";
import type { Database } from "./db.ts";
import { withoutNul } from "./events.ts";

/** Of a definition's words so many characters are looked at. */
const TEXT_LIMIT = 2000;

/**
 * The tools that have any of a query's words, best first: a word in a name or title counts most, then
 * one in the description, then one among the arguments. What the agent sees is what is ranked, so
 * renamed tools are found by their new names.
 *
 * @returns indexes into `tools`
 */
export async function rankTools(
  db: Database,
  tools: { name: string; definition: ToolDefinition }[],
  query: string,
  limit: number,
): Promise<number[]> {
  const names: string[] = [], descriptions: string[] = [], args: string[] = [];
  for (const { name, definition } of tools) {
    names.push(words(`${name} ${text(definition.title)}`));
    descriptions.push(words(text(definition.description)));
    args.push(words(argumentWords(definition.inputSchema)));
  }
  const rows = await db.asApp<{ index: number }[]>`
    with asked as (
      -- Any of the words: a model asks in sentences, and no tool has all of them.
      select nullif(replace(plainto_tsquery('english', ${
    words(query)
  })::text, '&', '|'), '')::tsquery
        as query
    ), listed as (
      select ordinality - 1 as index,
        setweight(to_tsvector('english', name), 'A') || setweight(to_tsvector('english', description), 'B')
          || setweight(to_tsvector('english', args), 'C') as search
      from unnest(${names}::text[], ${descriptions}::text[], ${args}::text[])
        with ordinality as t (name, description, args, ordinality)
    )
    select index::int4 as index from listed, asked where search @@ query
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
