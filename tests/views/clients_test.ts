import assert from "node:assert/strict";
import { parse as parseToml } from "npm:smol-toml@1.9.1";
import { parse as parseYaml } from "npm:yaml@2.9.1";
import { ClientConfiguration } from "../../views/client_configuration.tsx";
import { type Bridge, CLIENTS, KINDS, TOKEN_PLACEHOLDER, type Way } from "../../views/clients.ts";

const BRIDGE = { url: "https://mooring.example.com/mcp", token: "moor_abc-DEF_123" };
/** Of nobody's making, but nothing of it may end a string, a line, a word or an element. */
const HOSTILE: Bridge[] = [
  { url: "https://mooring.example.com/it's$(id)`id`/mcp?a=1&b=%22;#x", token: BRIDGE.token },
  {
    url: BRIDGE.url,
    token: `"'\\\n$(id)\`id\`\${HOME} </script><b> # : {}[] \x7f\u0085\u2028 %PATH% !!`,
  },
];

/** All strings in a parsed configuration, at any depth. */
function texts(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return value && typeof value === "object" ? Object.values(value).flatMap(texts) : [];
}

/** What a real shell makes of a way's commands: each one's words, and `export`s as words of their own. */
async function shellWords(text: string): Promise<string[]> {
  const programs = ["claude", "codex", "copilot", "gemini", "qwen", "cline", "npx", "export"];
  const script = programs.map((name) => `${name}() { printf '%s\\0' "$@"; }`).join("\n");
  const { stdout, success } = await new Deno.Command("bash", {
    args: ["-c", `${script.replace("export()", "say()")}\n${text.replace(/^export /m, "say ")}`],
  }).output();
  assert.ok(success, text);
  return new TextDecoder().decode(stdout).split("\0").slice(0, -1);
}

async function read({ format, text }: Way): Promise<string[]> {
  switch (format) {
    case "json":
      return texts(JSON.parse(text));
    case "yaml":
      return texts(parseYaml(text));
    case "toml":
      return texts(parseToml(text));
    case "shell":
      return await shellWords(text);
    case "text":
      return text.split(/\n| (?=Bearer )|: /);
  }
}

Deno.test("CLIENTS are at least 15 real ones, each with its own document", () => {
  const real = CLIENTS.filter(({ id }) => !["any", "inspector"].includes(id));
  assert.ok(real.length >= 15, `${real.length}`);
  assert.equal(new Set(CLIENTS.map(({ id }) => id)).size, CLIENTS.length);
  for (const { id, source, kind, ways } of CLIENTS) {
    assert.match(id, /^[a-z0-9-]+$/);
    assert.equal(new URL(source).protocol, "https:", id);
    assert.ok(KINDS.includes(kind), id);
    assert.ok(ways(BRIDGE).length > 0, id);
  }
});

Deno.test("each way of a client is whole in its format, with the address and the token or its place", async () => {
  for (const { id, ways } of CLIENTS) {
    for (const way of ways(BRIDGE)) {
      const words = await read(way);
      const all = words.join("\n");
      assert.ok(words.includes(BRIDGE.url), `${id}: ${way.text}`);
      assert.ok(
        all.includes(BRIDGE.token) || all.includes(TOKEN_PLACEHOLDER) || all.includes("${input:"),
        `${id}: ${way.text}`,
      );
      if (all.includes(BRIDGE.token)) {
        assert.ok(
          words.some((word) =>
            word === `Bearer ${BRIDGE.token}` ||
            word === `Authorization: Bearer ${BRIDGE.token}` ||
            // Clients that put the word before it themselves.
            word === BRIDGE.token || word === `${TOKEN_PLACEHOLDER}=${BRIDGE.token}`
          ),
          `${id}: ${way.text}`,
        );
      }
    }
  }
});

Deno.test("no address and no token ends its string, line or word in a configuration", async () => {
  for (const bridge of HOSTILE) {
    for (const { id, ways } of CLIENTS) {
      for (const way of ways(bridge).filter(({ format }) => format !== "text")) {
        const words = await read(way);
        assert.ok(words.includes(bridge.url), `${id}: ${way.text}`);
        const isThere = words.some((word) => word.endsWith(bridge.token));
        assert.ok(
          isThere || /MOORING_TOKEN|\$\{input:/.test(way.text),
          `${id}: ${way.text}\n${words.join("\n")}`,
        );
      }
    }
  }
});

Deno.test("the links that open a client hold the address and never a token", () => {
  const links = new Map(
    CLIENTS.filter(({ link }) => link).map(({ id, link }) => [id, link!(HOSTILE[0].url).href]),
  );
  const cursor = new URL(links.get("cursor")!);
  assert.equal(cursor.protocol, "cursor:");
  assert.equal(cursor.searchParams.get("name"), "mooring");
  assert.deepEqual(JSON.parse(atob(cursor.searchParams.get("config")!)), {
    url: HOSTILE[0].url,
    headers: { Authorization: "Bearer ${env:MOORING_TOKEN}" },
  });
  const code = links.get("vs-code")!;
  assert.ok(code.startsWith("vscode:mcp/install?"));
  const { name, inputs, ...server } = JSON.parse(decodeURIComponent(code.split("?")[1]));
  assert.equal(name, "mooring");
  assert.equal(inputs[0].password, true);
  assert.deepEqual(server, {
    type: "http",
    url: HOSTILE[0].url,
    headers: { Authorization: `Bearer \${input:${inputs[0].id}}` },
  });
  for (const href of links.values()) assert.doesNotMatch(href, /[\s"<>]/);
});

Deno.test("mcp-remote is allowed plain http where it would refuse it, and nowhere else", () => {
  const args = (url: string) =>
    JSON.parse(CLIENTS.find(({ id }) => id === "claude-desktop")!.ways({ ...BRIDGE, url })[0].text)
      .mcpServers.mooring.args as string[];
  assert.ok(args("http://mooring.lan:4680/mcp").includes("--allow-http"));
  for (const url of [BRIDGE.url, "http://127.0.0.1:4680/mcp", "http://localhost:4680/mcp"]) {
    assert.ok(!args(url).includes("--allow-http"), url);
  }
});

Deno.test("ClientConfiguration shows each configuration as text, with or without a token", () => {
  const page = (newToken: string | null) =>
    String(ClientConfiguration({ bridgeUrl: BRIDGE.url, newToken, clientsSignIn: true }));
  const hostile = page(HOSTILE[1].token);
  assert.doesNotMatch(hostile, /<\/script>|<b>/);
  assert.equal(hostile.match(/<pre /g)!.length, CLIENTS.flatMap(({ ways }) => ways(BRIDGE)).length);
  const ids = [...hostile.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  assert.equal(new Set(ids).size, ids.length);
  assert.match(page(null), /Put a token in the place of <code>MOORING_TOKEN<\/code>/);
  const made = page(BRIDGE.token);
  const hrefs = [...made.matchAll(/href="([^"]+)"/g)].map(([, href]) => href);
  assert.ok(hrefs.length > CLIENTS.length);
  assert.ok(hrefs.every((href) => !href.includes(BRIDGE.token)));
});
