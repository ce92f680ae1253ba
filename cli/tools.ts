import type { DefinitionShape } from "../routes/api/tools.ts";
import { Exit } from "./client.ts";
import { type Command, UsageError } from "./command.ts";
import { serverId } from "./find.ts";
import { readInput } from "./prompt.ts";

type Items = { items: DefinitionShape[] };

export const toolCommands: Command[] = [
  {
    words: "tools list",
    summary: "List a server's tools, what needs a decision first",
    arguments: ["<server>"],
    options: { all: { help: "Prompts, resource templates and instructions too" } },
    async run({ client, output, args: [name], flag }) {
      const id = await serverId(client, name);
      const path = `/servers/${id}/${flag("all") ? "definitions" : "tools"}`;
      const { items } = await client.get<Items>(path);
      output.list(items, {
        state: ({ state }) => state,
        kind: ({ kind }) => kind,
        name: ({ name }) => name,
        description: ({ definition }) => String(definition.description ?? "").slice(0, 100),
      }, "It lists nothing yet. Tools are there once it runs: `servers get` says how far it is.");
    },
  },
  {
    words: "tools get",
    summary: "Print a tool's definition",
    arguments: ["<server>", "<tool>"],
    async run({ client, output, args: [name, tool] }) {
      const id = await serverId(client, name);
      const found = await client.get<DefinitionShape>(
        `/servers/${id}/tools/${encodeURIComponent(tool)}`,
      );
      output.text(found, JSON.stringify(found.definition, null, 2) + "\n");
    },
  },
  {
    words: "tools approve",
    summary: "Approve tools, as they are now: read them first",
    arguments: ["<server>", "[tool…]"],
    options: { all: { help: "All that waits or changed, prompts and instructions too" } },
    async run({ client, output, args: [name, ...tools], flag }) {
      if (flag("all") === tools.length > 0) throw new UsageError("Name tools, or say --all");
      const id = await serverId(client, name);
      const { items } = await client.get<Items>(`/servers/${id}/definitions`);
      const open = items.filter(({ state }) => state === "waiting" || state === "changed");
      const chosen = flag("all") ? open : tools.map((tool) => {
        const found = items.find(({ kind, name }) => kind === "tool" && name === tool);
        if (!found) throw new UsageError(`The server lists no tool ${tool}`);
        return found;
      });
      if (chosen.length === 0) return output.done({ items }, "Nothing waits for approval");
      const definitions = chosen.map(({ kind, name, hash }) => ({ kind, name, hash }));
      const now = await client.post(`/servers/${id}/approvals`, { definitions });
      output.done(now, `Approved ${chosen.map(({ name }) => name).join(", ")}`);
    },
  },
  {
    words: "tools withdraw",
    summary: "Take approval back: agents no longer get these",
    arguments: ["<server>", "<tool…>"],
    async run({ client, output, args: [name, ...names] }) {
      const id = await serverId(client, name);
      const now = await client.post(`/servers/${id}/approvals/withdraw`, { names });
      output.done(now, `Approval withdrawn of ${names.join(", ")}`);
    },
  },
  {
    words: "call",
    summary: "Call an approved tool",
    arguments: ["<server>", "<tool>", "[json]"],
    details:
      "The arguments are a JSON object; - reads them from standard input. A tool that says it " +
      "failed, or a call that was not answered, ends with 1.",
    async run({ client, output, args: [name, tool, json = "{}"] }) {
      const text = json === "-" ? await readInput() : json;
      let args: unknown;
      try {
        args = JSON.parse(text);
      } catch {
        throw new UsageError('The arguments have to be JSON, such as {"path": "/work"}');
      }
      const id = await serverId(client, name);
      const path = `/servers/${id}/tools/${encodeURIComponent(tool)}/call`;
      const answer = await client.post<{
        result?: { content?: unknown; isError?: unknown };
        error?: { code: number; message: string };
      }>(path, { arguments: args });
      output.text(answer, answer.error ? "" : said(answer.result));
      if (answer.error && !output.isJson) output.tell(`Not answered: ${answer.error.message}`);
      return answer.error || answer.result?.isError === true ? Exit.failed : Exit.done;
    },
  },
];

/** A result's texts; of other content what kind it is. */
function said(result: { content?: unknown } | undefined): string {
  if (!Array.isArray(result?.content)) return JSON.stringify(result, null, 2) + "\n";
  return result.content.map((block) => {
    if (block?.type === "text") return `${block.text}\n`;
    const { type, mimeType, uri } = block ?? {};
    return `[${[type, mimeType, uri].filter(Boolean).join(" ")}: --json shows it]\n`;
  }).join("");
}
