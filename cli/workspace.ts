import type { ImportResult, RetentionShape } from "../routes/api/workspace.ts";
import { Exit } from "./client.ts";
import { type Command, UsageError } from "./command.ts";
import { askSecret, readInput, secretTheyAsk } from "./prompt.ts";

/** Between two looks whether servers list their tools. */
const LOOK_AGAIN_MS = 3000;

export const workspaceCommands: Command[] = [
  {
    words: "retention",
    summary: "Say how long calls are kept, and whether what is said in them is",
    options: {
      calls: { value: "DAYS", help: "Keep them for 7, 30, 90, 180, 365 or 730 days" },
      bodies: { value: "DAYS", help: "Keep what is said, masked, for 1, 7 or 30 days" },
      "no-bodies": { help: "Keep nothing of what is said, and delete what was kept" },
    },
    async run({ client, output, flag, value }) {
      const days = (name: string) => value(name) === undefined ? undefined : Number(value(name));
      const [calls, bodies] = [days("calls"), days("bodies")];
      if (flag("no-bodies") && bodies !== undefined) {
        throw new UsageError("Say --bodies or --no-bodies, not both");
      }
      const change = {
        callsKeptDays: calls,
        keepsBodies: flag("no-bodies") ? false : bodies === undefined ? undefined : true,
        bodiesKeptDays: bodies,
      };
      const isChange = Object.values(change).some((each) => each !== undefined);
      const path = "/workspace/retention";
      const now = isChange
        ? await client.patch<RetentionShape>(path, change)
        : await client.get<RetentionShape>(path);
      output.facts(now, {
        "calls are kept for": `${now.callsKeptDays} days`,
        "what is said in them": now.keepsBodies
          ? `for ${now.bodiesKeptDays} days, masked`
          : "is not kept",
      });
    },
  },
  {
    words: "export",
    summary: "Print the workspace as one file: servers, agents, connections and approvals",
    options: {
      output: { value: "FILE", help: "Into a new file, for your eyes alone" },
      "with-secrets": {
        help: "Secrets too, sealed with a passphrase: MOORING_PASSPHRASE, else asked for",
      },
    },
    async run({ client, output, flag, value }) {
      const file = flag("with-secrets")
        ? await client.post("/workspace/export", { passphrase: await passphrase(true) })
        : await client.get("/workspace/export");
      const path = value("output");
      if (path === undefined) return output.json(file);
      try {
        const text = JSON.stringify(file, null, 2) + "\n";
        await Deno.writeTextFile(path, text, { createNew: true, mode: 0o600 });
      } catch (error) {
        if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
        throw new UsageError(`${path} is there already: give another file`);
      }
      output.done({ path }, `Written to ${path}`);
    },
  },
  {
    words: "import",
    summary: "Say what an exported file would make here; with --apply, make it",
    arguments: ["<file>"],
    details:
      "What is there is left as it is, so an import may be done again. Secrets that are not " +
      "sealed in the file are read from environment variables of their names, else asked for. " +
      "- reads standard input.",
    options: {
      apply: { help: "Make it" },
      wait: { help: "Until servers list their tools, and approve what was approved" },
      "agree-to-build-code": {
        help: "Its entries' install scripts and Dockerfiles may run at their build",
      },
    },
    async run({ client, output, args: [path], flag }) {
      const file = await readFile(path);
      const request = {
        file,
        agreesToBuildCode: flag("agree-to-build-code"),
        passphrase: file.sealedSecrets ? await passphrase(false) : undefined,
      };
      const send = (more: { apply: boolean; secrets?: Record<string, Record<string, string>> }) =>
        client.post<ImportResult>("/workspace/import", { ...request, ...more });
      const plan = await send({ apply: false });
      if (!flag("apply")) {
        show(output, plan);
        if (!output.isJson) output.tell("Nothing was changed: --apply makes it.");
        return Exit.done;
      }
      const secrets: Record<string, Record<string, string>> = {};
      for (const { server, name, label } of plan.secretsNeeded) {
        const secret = await secretTheyAsk(output, name, `${label} of ${server}`);
        (secrets[server] ??= {})[name] = secret;
      }
      let result = await send({ apply: true, secrets });
      const waits = () =>
        result.steps.some(({ kind, action }) => kind === "approvals" && action === "waiting");
      while (flag("wait") && waits()) {
        output.tell("Waiting for servers to list their tools …");
        await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
        result = await send({ apply: true, secrets });
      }
      show(output, result);
      return result.isComplete ? Exit.done : Exit.failed;
    },
  },
];

function show(output: Parameters<Command["run"]>[0]["output"], result: ImportResult) {
  if (output.isJson) return output.json(result);
  output.list(result.steps, {
    what: ({ kind }) => kind,
    name: ({ name }) => name,
    outcome: ({ action }) => action,
    detail: ({ detail }) => detail,
  }, "The file is empty.");
}

async function readFile(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = path === "-" ? await readInput() : await Deno.readTextFile(path);
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${(error as Error).message}`);
  }
  try {
    const file = JSON.parse(text);
    if (typeof file === "object" && file !== null && !Array.isArray(file)) return file;
  } catch {
    // Told below.
  }
  throw new UsageError(`${path} is no file that \`export\` made`);
}

async function passphrase(isNew: boolean): Promise<string> {
  const given = Deno.env.get("MOORING_PASSPHRASE");
  if (given) return given;
  const typed = await askSecret("Passphrase of the secrets");
  if (isNew && typed !== await askSecret("Again")) throw new UsageError("They differ");
  return typed;
}
