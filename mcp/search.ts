/**
 * Tool search: for an agent with many tools, two in place of all definitions. `find_tools` ranks by
 * Postgres's full text search (models/tool_ranking.ts), without a model; `call_tool` calls what was
 * found.
 */
import { objectMembers, objectText } from "../dtma/protocol.ts";
import type { Database } from "../models/db.ts";
import { indexTools, rankTools, type ToolIndex } from "../models/tool_ranking.ts";
import type { NamedToolbelt } from "./aggregate.ts";
import type { IncomingRequest } from "./messages.ts";
import { RpcCode, RpcError } from "./revisions.ts";
import type { Answer } from "./router.ts";

export const FIND_TOOLS = "find_tools";
export const CALL_TOOL = "call_tool";

const FOUND_DEFAULT = 8;
const FOUND_LIMIT = 50;
const QUERY_LIMIT = 1000;

/** What such an agent's tools/list gives. */
export const SEARCH_TOOLS: Record<string, unknown>[] = [
  {
    name: FIND_TOOLS,
    title: "Find tools",
    description:
      'Finds tools by what they are for. Give a few words of the task, such as "create issue" or ' +
      '"read file"; the best matches come with their definitions. Call one with call_tool.',
    inputSchema: {
      type: "object",
      properties: {
        query: { type: "string", description: "What the tool should do, in a few words" },
        limit: { type: "integer", minimum: 1, maximum: FOUND_LIMIT, default: FOUND_DEFAULT },
      },
      required: ["query"],
    },
    annotations: { readOnlyHint: true, openWorldHint: false },
  },
  {
    name: CALL_TOOL,
    title: "Call a tool",
    description: "Calls a tool that find_tools found, with arguments that fit its inputSchema.",
    inputSchema: {
      type: "object",
      properties: {
        name: { type: "string", description: "The tool's name, as find_tools gave it" },
        arguments: { type: "object", description: "What its inputSchema asks for" },
      },
      required: ["name"],
    },
  },
];

/** Answers `find_tools`. Arguments that do not hold are a result that a model reads and can mend. */
export async function foundTools(
  db: Database,
  named: NamedToolbelt,
  args: unknown,
): Promise<Answer> {
  const { query, limit = FOUND_DEFAULT } = (args ?? {}) as Record<string, unknown>;
  if (typeof query !== "string" || query.trim() === "" || query.length > QUERY_LIMIT) {
    return told(`query must be 1 to ${QUERY_LIMIT} characters`, true);
  }
  if (!Number.isInteger(limit) || (limit as number) < 1 || (limit as number) > FOUND_LIMIT) {
    return told(`limit must be a whole number from 1 to ${FOUND_LIMIT}`, true);
  }
  const names = named.order.tools;
  const ranked = await rankTools(db, await indexOf(db, named), query, limit as number);
  if (ranked.length === 0) {
    return told(`No tool of ${names.length} matches "${query}". Try other words, or fewer`);
  }
  const tools = ranked.map((index) => {
    const name = names[index], { definition } = named.toolsByName.get(name)!;
    const { title, description, inputSchema, annotations } = definition;
    return { name, title, description, inputSchema, annotations };
  });
  return result({
    content: [{ type: "text", text: JSON.stringify({ tools }) }],
    structuredContent: { tools },
  });
}

const indexes = new WeakMap<NamedToolbelt, Promise<ToolIndex>>();

/** A toolbelt's index, made at its first search. */
function indexOf(db: Database, named: NamedToolbelt): Promise<ToolIndex> {
  let index = indexes.get(named);
  if (!index) {
    const tools = named.order.tools.map((name) => ({
      name,
      definition: named.toolsByName.get(name)!.definition,
    }));
    indexes.set(named, index = indexTools(db, tools));
    index.catch(() => indexes.delete(named));
  }
  return index;
}

/**
 * The request that `call_tool` stands for: its arguments' text goes on as it is written.
 * @throws {RpcError} when it names no tool
 */
export function calledTool(request: IncomingRequest): IncomingRequest {
  const params = objectMembers(request.paramsText);
  const given = params.get("arguments");
  const members = given?.startsWith("{") ? objectMembers(given) : new Map<string, string>();
  const nameText = members.get("name") ?? "";
  if (!nameText.startsWith('"')) {
    throw new RpcError(RpcCode.invalidParams, `${CALL_TOOL} needs the name of a tool`, 200);
  }
  const argumentsText = members.get("arguments") ?? "{}";
  params.set("name", nameText).set("arguments", argumentsText);
  return {
    ...request,
    params: {
      ...request.params,
      name: JSON.parse(nameText),
      arguments: JSON.parse(argumentsText),
    },
    paramsText: objectText(params),
  };
}

function told(text: string, isError = false): Answer {
  return result({ content: [{ type: "text", text }], ...(isError ? { isError } : {}) });
}

function result(value: Record<string, unknown>): Answer {
  return { kind: "result", text: JSON.stringify({ resultType: "complete", ...value }) };
}
