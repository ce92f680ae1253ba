import assert from "node:assert/strict";
import { relative } from "node:path";
import { fileURLToPath as fromFileUrl } from "node:url";

interface Module {
  specifier: string;
  dependencies?: {
    specifier: string;
    code?: { specifier?: string };
    type?: { specifier?: string };
  }[];
}

const ROOT = fromFileUrl(new URL("../", import.meta.url));

/** What code of each folder may import as code; a folder not named here fails the test. */
const MAY_IMPORT: Record<string, string[]> = {
  dtma: ["dtma"],
  views: ["views"],
  models: ["models", "dtma/protocol.ts"],
  mcp: ["mcp", "models", "dtma/protocol.ts"],
  // Of the bridge nothing: it is its client, over HTTP.
  chat: ["chat", "models"],
  routes: ["routes", "views", "chat", "mcp", "models", "dtma/protocol.ts", "static"],
  images: ["images", "dtma"],
  static: [],
  // Of the API its types alone: it speaks to it over HTTP.
  cli: ["cli"],
  supabase: ["supabase", "app.ts", "chat", "models", "routes/keep_alive.ts"],
  "app.ts": ["routes", "models/model_reach.ts"],
};

/** Entry points, which put the rest together. */
const ENTRIES = [
  "main.ts",
  "config.ts",
  "data_directory.ts",
  "database.ts",
  "engine.ts",
  "local_enrolment.ts",
  "local_toolbox.ts",
  "mailer.ts",
  "memory_at_rest.ts",
  "port.ts",
  "reset_password.ts",
  "self_hosted.ts",
];

Deno.test("imports flow one way: main -> app -> routes -> {views, mcp, models}, mcp -> models", async () => {
  const modules = [
    ...await graph("main.ts"),
    ...await graph("supabase/functions/app/index.ts"),
    ...await graph("supabase/functions/chat/index.ts"),
    ...await graph("dtma/main.ts"),
    ...await graph("images/base.ts"),
    ...await graph("cli/main.ts"),
  ];
  const wrong: string[] = [];
  for (const { specifier, dependencies } of modules) {
    const from = ours(specifier);
    if (!from || ENTRIES.includes(from)) continue;
    const allowed = MAY_IMPORT[from.includes("/") ? from.split("/")[0] : from];
    assert.ok(
      allowed,
      `${from} is in no folder of DESIGN.md's layout: say in this test what it may import`,
    );
    for (const dependency of dependencies ?? []) {
      const to = ours(dependency.code?.specifier ?? "");
      if (from.startsWith("dtma/") && TEXTS.test(to ?? "")) continue;
      if (to && !allowed.some((place) => to === place || to.startsWith(`${place}/`))) {
        wrong.push(`${from} imports ${to}`);
      }
    }
  }
  assert.deepEqual([...new Set(wrong)], []);
  assert.ok(modules.length > 40, "the graph was read");
});

Deno.test("views import types alone from outside", async () => {
  for (const { specifier, dependencies } of await graph("app.ts")) {
    if (!ours(specifier)?.startsWith("views/")) continue;
    for (const { code } of dependencies ?? []) {
      const to = ours(code?.specifier ?? "");
      assert.ok(!to || to.startsWith("views/"), `${specifier} imports code of ${to}`);
    }
  }
});

Deno.test("nothing reachable from app.ts needs more than an edge isolate has", async () => {
  const modules = [
    ...await graph("app.ts"),
    ...await graph("supabase/functions/app/index.ts"),
    ...await graph("supabase/functions/chat/index.ts"),
  ];
  const forbidden =
    /^npm:\/?(@electric-sql|dockerode|@?better-auth|kysely|nodemailer)|^node:(child_process|fs|net|dgram|cluster|worker_threads)/;
  const wrong: string[] = [];
  for (const { specifier, dependencies } of modules) {
    const file = ours(specifier);
    // The function's entry is its own: it reads its secrets and serves.
    if (!file || file.startsWith("supabase/")) continue;
    for (const { code } of dependencies ?? []) {
      if (forbidden.test(code?.specifier ?? "")) wrong.push(`${file} imports ${code!.specifier}`);
    }
    if (!/\.tsx?$/.test(file)) continue;
    if (file.startsWith("dtma/")) {
      assert.match(
        file,
        /^dtma\/(protocol|body|brief_map|call_signal|deadlines|link|signature|tool_definition|json_(text|bytes)|version)\.ts$/,
        "of dtma/ only the wire is shared",
      );
    }
    // An edge isolate has this one, to answer an upgrade that came in.
    const text = withoutComments(await Deno.readTextFile(ROOT + file))
      .replaceAll("Deno.upgradeWebSocket(", "");
    if (/\bDeno\s*\./.test(text)) wrong.push(`${file} uses Deno.*`);
  }
  assert.deepEqual(wrong, []);
});

/** What DTMA makes base images of: as text, which is not run. */
const TEXTS = /^images\/[a-z-]+\/(Dockerfile|install\.(mjs|py|sh))$/;

Deno.test("dtma imports nothing of the app", async () => {
  for (const { specifier } of await graph("dtma/main.ts")) {
    const file = ours(specifier);
    assert.ok(!file || file.startsWith("dtma/") || TEXTS.test(file), `dtma reaches ${file}`);
  }
});

async function graph(entry: string): Promise<Module[]> {
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--lock=app.lock", ROOT + entry],
    cwd: ROOT,
    stderr: "null",
  }).output();
  assert.ok(success, `deno info ${entry} works`);
  const { modules } = JSON.parse(new TextDecoder().decode(stdout));
  // `deno info` lists what is reached by type imports too: follow code alone from the entry.
  const byName = new Map<string, Module>(
    modules.map((module: Module) => [module.specifier, module]),
  );
  const reached = new Set<string>();
  const visit = (name: string) => {
    if (reached.has(name) || !byName.has(name)) return;
    reached.add(name);
    for (const { code } of byName.get(name)!.dependencies ?? []) {
      if (code?.specifier) visit(code.specifier);
    }
  };
  visit(new URL(`../${entry}`, import.meta.url).href);
  return [...reached].map((name) => byName.get(name)!);
}

/** A module's path in this repository, or null for a package's. */
function ours(specifier: string): string | null {
  return specifier.startsWith("file:") ? relative(ROOT, fromFileUrl(specifier)) : null;
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "");
}

Deno.test("deno.lock holds deno.json's imports alone, which `deno task` fetches before it starts", async () => {
  const { imports } = await json("deno.json");
  const { specifiers, npm } = await json("deno.lock");
  const named = Object.values<string>(imports).filter((name) => !name.endsWith("/"));
  assert.deepEqual(
    Object.keys(specifiers).sort(),
    named.sort(),
    "a program was run without --lock=app.lock: git checkout deno.lock",
  );
  const whole = await json("app.lock");
  for (const name of Object.keys(npm)) {
    assert.deepEqual(whole.npm[name], npm[name], `app.lock has the same ${name}`);
  }
});

Deno.test("app.lock holds what users run alone", async () => {
  // The tests have tests/deno.lock.
  const lock = await Deno.readTextFile(`${ROOT}app.lock`);
  for (const name of ["playwright-core", "fast-check", "@modelcontextprotocol/sdk", "express"]) {
    assert.equal(lock.includes(`"${name}@`), false, name);
  }
});

async function json(path: string) {
  return JSON.parse(await Deno.readTextFile(`${ROOT}${path}`));
}

Deno.test("a view's form that changes something is views/form.tsx's, which knows who may send it", async () => {
  for await (const { name } of Deno.readDir(`${ROOT}views`)) {
    const text = await Deno.readTextFile(`${ROOT}views/${name}`);
    if (name !== "form.tsx") assert.doesNotMatch(text, /<form\b[^>]*method="post"/, name);
  }
});
