import type { ApiDocumentShape } from "../routes/api/api_servers.ts";
import type { ServerShape } from "../routes/api/servers.ts";
import { type Command, type Line, pairsIn, UsageError } from "./command.ts";
import { serverId, toolboxId } from "./find.ts";
import { readInput } from "./prompt.ts";
import { secret } from "./prompt.ts";
import { settled } from "./servers.ts";

const DOCUMENT = "The document is its https URL, a file, or - for standard input.";

const CHOICE = {
  operation: {
    value: "NAME",
    isRepeatable: true,
    help: 'Its tool\'s name, or as in "GET /pets"; without any those that only read',
  },
  "without-shape": { help: "Tools do not say in which shape they answer" },
};

/** REST APIs, by their OpenAPI documents. */
export const apiServerCommands: Command[] = [
  {
    words: "servers operations",
    summary: "List the operations of an OpenAPI document",
    arguments: ["<document>"],
    details: DOCUMENT,
    async run(line) {
      const document = await read(line, line.args[0]);
      line.output.list(document.operations, {
        operation: ({ key }) => key,
        tool: ({ name }) => name,
        tag: ({ tag }) => tag,
        summary: ({ obstacle, summary }) => obstacle ? `Not as a tool: ${obstacle}` : summary,
      }, "The document has no operations.");
    },
  },
  {
    words: "servers add-openapi",
    summary: "Add a REST API: operations of its OpenAPI document as tools",
    arguments: ["<document>"],
    options: {
      ...CHOICE,
      name: { value: "NAME", help: "What to call it" },
      toolbox: { value: "TOOLBOX", help: "Where; else on the one that fits best" },
      label: { value: "KEY=VALUE", help: "On a toolbox with this label" },
      url: { value: "URL", help: "Where the API is; else the document's first server" },
      variable: { value: "NAME=VALUE", isRepeatable: true, help: "Of the server's URL" },
      secret: {
        value: "VARIABLE",
        isRepeatable: true,
        help: "A credential, such as AUTH_TOKEN: read from the environment, else asked for",
      },
      "agree-to-plain-http": { help: "Credentials may be sent over http, readable on the way" },
      wait: { help: "Until it runs or failed" },
    },
    details:
      `${DOCUMENT} Without a scheme of its own for it, a key is sent by --secret AUTH_OWN as a ` +
      "bearer token.",
    async run(line) {
      const { client, output, args: [place], value, values, flag } = line;
      const document = await read(line, place);
      const credentials: Record<string, string> = {};
      for (const name of values("secret")) credentials[name] = await secret(name);
      const toolbox = value("toolbox");
      const made = await client.create<ServerShape>("/servers/api", {
        document: document.id,
        operations: chosen(line, document),
        tellsShape: !flag("without-shape"),
        name: value("name"),
        toolboxId: toolbox && await toolboxId(client, toolbox),
        label: value("label"),
        address: value("url"),
        variables: pairsIn(line, "variable"),
        credentials,
        ...("AUTH_OWN" in credentials && { ownCredential: { kind: "bearer" } }),
        agreesToPlainHttp: flag("agree-to-plain-http"),
      });
      return await settled(line, made, `Added as ${made.slug}`, output);
    },
  },
  {
    words: "servers set-operations",
    summary: "Give a REST API's server other operations, out of a newer document of it",
    arguments: ["<server>", "<document>"],
    options: { ...CHOICE, wait: { help: "Until it runs or failed" } },
    details: DOCUMENT,
    async run(line) {
      const { client, output, args: [name, place], flag } = line;
      const id = await serverId(client, name);
      const { generation } = await client.get<ServerShape>(`/servers/${id}`);
      const document = await read(line, place, id);
      for (const { name, state, parts } of document.changes) {
        output.tell(`${name} ${state === "gone" ? "is gone" : `has changed: ${parts.join(", ")}`}`);
      }
      const made = await client.put<ServerShape>(`/servers/${id}/operations`, {
        document: document.id,
        operations: chosen(line, document),
        tellsShape: !flag("without-shape"),
        generation,
      });
      return await settled(line, made, `Changed ${made.slug}`, output);
    },
  },
];

async function read({ client }: Line, place: string, server?: string): Promise<ApiDocumentShape> {
  const source = /^https?:/.test(place) ? { url: place } : { text: await textOf(place) };
  return await client.create("/api-documents", { ...source, server });
}

async function textOf(path: string): Promise<string> {
  try {
    return path === "-" ? await readInput() : await Deno.readTextFile(path);
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${(error as Error).message}`);
  }
}

/** The keys of the operations that the line names. */
function chosen({ values }: Line, { operations }: ApiDocumentShape): string[] {
  const named = values("operation");
  if (named.length === 0) {
    return operations.filter(({ isReadOnly, isDeprecated, obstacle }) =>
      isReadOnly && !isDeprecated && obstacle === null
    ).map(({ key }) => key);
  }
  return named.map((name) => {
    const found = operations.find((each) => each.name === name || each.key === name);
    if (!found) throw new UsageError(`The document has no operation ${name}`);
    if (found.obstacle) throw new UsageError(`${name} cannot be a tool: ${found.obstacle}`);
    return found.key;
  });
}
