import { Client } from "./client.ts";
import { type Command, UsageError } from "./command.ts";
import { askSecret, readInput } from "./prompt.ts";
import { forgetSettings, keepSettings, whyUnsafe } from "./settings.ts";

interface Me {
  person: { name: string; email: string };
  workspace: { name: string; role: string };
  scopes: string[];
  version: string;
}

export const loginCommands: Command[] = [
  {
    words: "login",
    summary: "Keep where Mooring is and a personal access token, for the commands to come",
    arguments: ["[url]"],
    isOffline: true,
    details:
      "Make the token on your account's page. It is asked for, or read from standard input, and kept " +
      "in a file that only you can read.",
    async run({ output, args: [given] }) {
      const url = (given ?? Deno.env.get("MOORING_URL") ?? "http://127.0.0.1:4680")
        .replace(/\/+$/, "");
      const unsafe = whyUnsafe(url);
      if (unsafe) throw new UsageError(unsafe);
      const token =
        (Deno.stdin.isTerminal()
          ? await askSecret(`Personal access token (${url}/account/tokens)`)
          : await readInput()).trim();
      if (!/^mpt_[A-Za-z0-9_-]{43}$/.test(token)) {
        throw new UsageError("That is no personal access token: it begins with mpt_");
      }
      const me = await new Client({ url, token }).get<Me>("/me");
      const path = await keepSettings({ url, token });
      output.done(
        { ...me, path },
        `You are ${me.person.email}, ${me.workspace.role} of ${me.workspace.name}. Kept in ${path}`,
      );
    },
  },
  {
    words: "logout",
    summary: "Revoke the token that was kept, and forget it",
    async run({ client, output }) {
      await client.delete("/me/token");
      await forgetSettings();
      output.done({}, "The token is revoked and forgotten");
    },
  },
  {
    words: "whoami",
    summary: "Say whom the token acts as, where, and how far it may",
    async run({ client, output }) {
      const me = await client.get<Me>("/me");
      output.facts(me, {
        person: `${me.person.name} ${me.person.email}`.trim(),
        workspace: `${me.workspace.name} (${me.workspace.role})`,
        scopes: me.scopes.join(", "),
        version: me.version,
      });
    },
  },
  {
    words: "api",
    summary: "Send any request to the API: api GET /servers",
    arguments: ["<method>", "<path>", "[json]"],
    async run({ client, output, args: [method, path, json] }) {
      if (!path.startsWith("/")) {
        throw new UsageError("<path> is one below /api/v1, such as /servers");
      }
      const text = json === "-" ? await readInput() : json;
      let body: unknown;
      try {
        body = text === undefined ? undefined : JSON.parse(text);
      } catch {
        throw new UsageError("The body has to be JSON");
      }
      const answer = await client.request(method.toUpperCase(), path, body);
      if (answer !== undefined) output.json(answer);
    },
  },
];
