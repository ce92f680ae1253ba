import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { objectMembers } from "../../dtma/protocol.ts";
import {
  argumentsText,
  type AskResources,
  findPrompt,
  findTool,
  instructionsOf,
  listPage,
  type NamedToolbelt,
  nameToolbelt,
  resourcesPage,
  routeUri,
  shownUri,
} from "../../mcp/aggregate.ts";
import { RpcError } from "../../mcp/revisions.ts";
import type { Toolbelt, ToolbeltServer } from "../../models/toolbelts.ts";

function server(slug: string, more: Partial<ToolbeltServer> = {}): ToolbeltServer {
  return {
    serverId: `id-of-${slug}`,
    slug,
    name: slug.toUpperCase(),
    toolboxId: "t",
    reach: "direct",
    address: "http://127.0.0.1:1",
    instances: "shared",
    knowsInstanceInputs: true,
    knowsInstanceAccounts: true,
    capabilities: { tools: {}, resources: {}, prompts: {} },
    instructions: null,
    unavailable: null,
    ...more,
  };
}

function toolbelt(tools: Record<string, string[]>, more: Partial<Toolbelt> = {}): Toolbelt {
  return {
    servers: Object.keys(tools).map((slug) => server(slug)),
    tools: Object.entries(tools).flatMap(([slug, names]) =>
      names.map((name) => ({
        serverId: `id-of-${slug}`,
        serverSlug: slug,
        name,
        shownName: name,
        hash: "h",
        definition: { name, description: `Does ${name}`, inputSchema: { type: "object" } },
        defaults: {},
        fixed: {},
        limits: null,
      }))
    ),
    prompts: [],
    templates: [],
    presents: "tools",
    ...more,
  };
}

const slug = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,20}$/);
const toolName = fc.oneof(
  fc.stringMatching(/^[a-zA-Z0-9_-]{1,40}$/),
  fc.string({ unit: "binary", minLength: 1, maxLength: 60 }),
  fc.constantFrom("__proto__", "constructor", "a__b", "find_tools"),
);
const anyToolbelt = fc.uniqueArray(
  fc.tuple(slug, fc.uniqueArray(toolName, { maxLength: 120 })),
  { selector: ([slug]) => slug, maxLength: 8 },
).map((servers) => toolbelt(Object.fromEntries(servers)));

/** All pages of a list. */
function listed(
  named: NamedToolbelt | (() => NamedToolbelt),
  what: "tools" | "prompts" | "templates" = "tools",
): Record<string, unknown>[] {
  const all: Record<string, unknown>[] = [];
  let cursor: unknown;
  do {
    const page = listPage(typeof named === "function" ? named() : named, what, cursor);
    all.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return all;
}

Deno.test("listPage gives every tool once, in order, under the name that findTool knows", () => {
  fc.assert(
    fc.property(anyToolbelt, (belt) => {
      const named = nameToolbelt(belt, null);
      const names = listed(named).map(({ name }) => name as string);
      assert.equal(new Set(names).size, belt.tools.length);
      assert.deepEqual(names, [...names].sort());
      assert.deepEqual(
        new Set(names.map((name) => findTool(named, name))),
        new Set(belt.tools),
      );
    }),
    { numRuns: 50 },
  );
});

Deno.test("nameToolbelt of one server leaves names untouched and the others out", () => {
  fc.assert(
    fc.property(anyToolbelt, (belt) => {
      for (const { slug, serverId } of belt.servers) {
        const named = nameToolbelt(belt, slug);
        assert.deepEqual(
          new Set(listed(named).map(({ name }) => name)),
          new Set(belt.tools.filter((tool) => tool.serverId === serverId).map(({ name }) => name)),
        );
      }
    }),
    { numRuns: 50 },
  );
});

Deno.test("listPage skips and repeats nothing that stays, while tools come and go between pages", () => {
  const names = Array.from({ length: 700 }, (_, i) => `tool_${i}`);
  fc.assert(
    fc.property(fc.infiniteStream(fc.boolean()), (coin) => {
      const staying = new Set(names.filter((_, index) => index % 2 === 0));
      const seen = listed(() =>
        nameToolbelt(
          toolbelt({ s: names.filter((name) => staying.has(name) || coin.next().value) }),
          null,
        )
      ).map(({ name }) => name as string);
      assert.equal(new Set(seen).size, seen.length, "none twice");
      for (const name of staying) assert.ok(seen.includes(`s__${name}`), name);
    }),
    { numRuns: 20 },
  );
});

/** Cursors that no list gave. */
const forged = fc.oneof(
  fc.anything(),
  fc.string({ unit: "binary" }),
  fc.jsonValue().map((value) => btoa(encodeURIComponent(JSON.stringify(value)))),
  fc.oneof(fc.integer(), fc.constant(null), fc.array(fc.string()))
    .map((after) => btoa(JSON.stringify({ after }))),
).filter((cursor) => cursor !== undefined);

Deno.test("listPage refuses every cursor but its own with -32602", () => {
  const named = nameToolbelt(toolbelt({ s: ["a"] }), null);
  fc.assert(fc.property(forged, (cursor) => {
    for (const what of ["tools", "prompts", "templates"] as const) {
      assert.throws(
        () => listPage(named, what, cursor),
        (error) => error instanceof RpcError && error.code === -32602,
      );
    }
  }));
});

Deno.test("argumentsText leaves text as it is written but for what is filled in", () => {
  const text = `{ "big": 9007199254740993, "f":1.0, "e" : 1e400,"s":"\\u00e9" }`;
  assert.equal(argumentsText({ defaults: {}, fixed: {} }, text), text);
  assert.equal(argumentsText({ defaults: { f: 2 }, fixed: {} }, text), text, "nothing is missing");
  const filled = objectMembers(argumentsText({ defaults: { d: [1] }, fixed: { f: "x" } }, text));
  assert.deepEqual([...filled], [
    ["big", "9007199254740993"],
    ["f", `"x"`],
    ["e", "1e400"],
    ["s", `"\\u00e9"`],
    ["d", "[1]"],
  ]);
});

Deno.test("argumentsText forces fixed values, however the caller writes a name", () => {
  const key = fc.oneof(fc.constantFrom("path", "__proto__", "x y"), fc.string({ unit: "binary" }));
  const written = (name: string, isEscaped: boolean) =>
    isEscaped
      ? `"${
        Array.from({ length: name.length }, (_, i) =>
          `\\u${name.charCodeAt(i).toString(16).padStart(4, "0")}`).join("")
      }"`
      : JSON.stringify(name);
  fc.assert(fc.property(
    fc.array(fc.tuple(key, fc.boolean(), fc.jsonValue()), { maxLength: 6 }),
    key,
    fc.jsonValue(),
    (members, name, value) => {
      const text = `{${
        members.map(([name, isEscaped, value]) =>
          `${written(name, isEscaped)}:${JSON.stringify(value)}`
        )
          .join(",")
      }}`;
      const result = argumentsText(
        { defaults: {}, fixed: Object.fromEntries([[name, value]]) },
        text,
      );
      const asked = JSON.parse(text), given = JSON.parse(result);
      // Compared as JSON: of a value it keeps all that there is.
      assert.equal(JSON.stringify(given[name]), JSON.stringify(JSON.parse(JSON.stringify(value))));
      assert.equal(
        [...result.matchAll(/"(?:[^"\\]|\\.)*"\s*:/g)].length >= Object.keys(given).length,
        true,
      );
      for (const other of Object.keys(asked)) {
        if (other !== name) {
          assert.equal(JSON.stringify(given[other]), JSON.stringify(asked[other]));
        }
      }
    },
  ));
});

Deno.test("routeUri leads back to the server and URI that shownUri showed", () => {
  const uri = fc.oneof(
    fc.webUrl(),
    fc.string({ unit: "binary" }),
    fc.constantFrom("mooring://a/x", "mooring://b/mooring://a/x", "mooring://", "file:///a/../b"),
  );
  const which = fc.subarray(["a", "b", "c"], { minLength: 1 });
  fc.assert(fc.property(uri, fc.constantFrom("a", "b", "c"), which, (uri, slug, having) => {
    const belt = toolbelt({ a: [], b: [], c: [] });
    belt.servers = belt.servers.map((each) =>
      having.includes(each.slug) ? each : server(each.slug, { capabilities: { tools: {} } })
    );
    const named = nameToolbelt(belt, null);
    const from = named.servers.find((each) => each.slug === slug)!;
    const seen = shownUri(named, from, uri);
    // Of a tool's result it may be a server's that has no resources: to be asked all the same, and no other.
    assert.deepEqual(routeUri(named, seen), { server: from, uri });
    if (having.length > 1 || having[0] !== slug) assert.equal(seen, `mooring://${slug}/${uri}`);
    const alone = nameToolbelt(belt, slug);
    assert.equal(shownUri(alone, from, uri), uri);
    if (having.includes(slug)) assert.deepEqual(routeUri(alone, uri), { server: from, uri });
  }));
});

Deno.test("routeUri finds by its template whose a URI without our prefix is, and else nobody's", () => {
  const template = (slug: string, name: string) => ({
    serverId: `id-of-${slug}`,
    serverSlug: slug,
    name,
    hash: "h",
    definition: { name: "t", uriTemplate: name },
  });
  const templates = [template("a", "a://{x}/end"), template("b", "b://{+path}{?q}")];
  const named = nameToolbelt(toolbelt({ a: [], b: [] }, { templates }), null);
  assert.equal(routeUri(named, "a://1/end")?.server.slug, "a");
  assert.equal(routeUri(named, "b://1/2?q=3")?.server.slug, "b");
  assert.equal(routeUri(named, "a://1"), null);
  assert.equal(routeUri(named, "mooring://nobody/x"), null);
  assert.deepEqual(listed(named, "templates").map(({ uriTemplate }) => uriTemplate), [
    "mooring://a/a://{x}/end",
    "mooring://b/b://{+path}{?q}",
  ]);
});

Deno.test("routeUri finds whose tool a page of MCP Apps shows, which nobody need have listed", () => {
  const belt = toolbelt({ a: ["x"], b: ["clock", "old"] });
  const uri = "ui://clock/page.html";
  belt.tools[1].definition._meta = { ui: { resourceUri: uri } };
  belt.tools[2].definition._meta = { "ui/resourceUri": "ui://old" };
  const named = nameToolbelt(belt, null);
  for (const each of [uri, "ui://old"]) {
    assert.deepEqual(routeUri(named, each), { server: belt.servers[1], uri: each });
  }
  assert.equal(routeUri(named, "ui://clock"), null);
});

Deno.test("prompts of one name of two servers are told apart", () => {
  const prompt = (slug: string) => ({
    serverId: `id-of-${slug}`,
    serverSlug: slug,
    name: "greet",
    hash: "h",
    definition: { name: "greet" },
  });
  const named = nameToolbelt(
    toolbelt({ a: [], b: [] }, { prompts: [prompt("a"), prompt("b")] }),
    null,
  );
  assert.deepEqual(listed(named, "prompts").map(({ name }) => name), ["a__greet", "b__greet"]);
  assert.equal(findPrompt(named, "b__greet")?.serverSlug, "b");
  assert.equal(findPrompt(named, "greet"), undefined);
});

Deno.test("instructionsOf a server alone are its own; of several they say whose they are", () => {
  const belt = toolbelt({ a: [], b: [] });
  belt.servers[0] = server("a", { instructions: "Mind the gap" });
  assert.equal(instructionsOf(nameToolbelt(belt, "a")), "Mind the gap");
  assert.match(instructionsOf(nameToolbelt(belt, null))!, /# A \(a__…\)\n\nMind the gap/);
});

const NEVER = new AbortController().signal;
const answer = (resources: unknown[], nextCursor?: string) => ({
  kind: "result" as const,
  text: JSON.stringify({ resources, nextCursor }),
});

Deno.test("resourcesPage joins what servers list, names who did not, and goes on where each was", async () => {
  const named = nameToolbelt(toolbelt({ a: [], b: [], dead: [], gone: [] }), null);
  named.servers[3] = server("gone", { unavailable: "It is stopped" });
  const asked: string[] = [];
  const ask: AskResources = ({ slug }, cursor) => {
    asked.push(`${slug} ${cursor}`);
    if (slug === "dead") {
      return Promise.resolve({ kind: "error", text: `{"code":1,"message":"It broke"}` });
    }
    if (slug === "b") return Promise.resolve(answer([null, 7, { uri: "x://same", size: 1 }]));
    return Promise.resolve(
      cursor === undefined ? answer([{ uri: "x://same" }], "ü2") : answer([{ uri: "x://2" }]),
    );
  };
  const first = await resourcesPage(named, undefined, ask, NEVER);
  assert.deepEqual(JSON.parse(first.resourcesText), [
    { uri: "mooring://a/x://same" },
    null,
    7,
    { uri: "mooring://b/x://same", size: 1 },
  ]);
  assert.deepEqual(first.unavailable, { dead: "It broke", gone: "It is stopped" });
  assert.deepEqual(asked, ["a undefined", "b undefined", "dead undefined"]);
  asked.length = 0;
  const second = await resourcesPage(named, first.nextCursor, ask, NEVER);
  assert.deepEqual(JSON.parse(second.resourcesText), [{ uri: "mooring://a/x://2" }]);
  assert.equal(second.nextCursor, undefined);
  assert.deepEqual(asked, ["a ü2"]);
});

Deno.test("resourcesPage ends with a server whose pages do not", async () => {
  const named = nameToolbelt(toolbelt({ empty: [], round: [] }), null);
  const asked: string[] = [];
  const ask: AskResources = ({ slug }, cursor) => {
    asked.push(`${slug} ${cursor}`);
    return Promise.resolve(answer([{ uri: `x://${slug}` }], slug === "empty" ? "" : "again"));
  };
  const first = await resourcesPage(named, undefined, ask, NEVER);
  const second = await resourcesPage(named, first.nextCursor, ask, NEVER);
  assert.deepEqual(asked, ["empty undefined", "round undefined", "empty ", "round again"]);
  // An empty cursor begins anew at some servers.
  assert.deepEqual(JSON.parse(second.resourcesText), [{ uri: "mooring://round/x://round" }]);
  assert.equal(second.nextCursor, undefined);
  assert.deepEqual(Object.keys(second.unavailable), ["round"]);
});

Deno.test("resourcesPage gives each resource once, whatever pages each server makes of them", async () => {
  /** By server the sizes of its pages, some of them empty. */
  const servers = fc.uniqueArray(
    fc.tuple(slug, fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 6 })),
    { selector: ([slug]) => slug, minLength: 1, maxLength: 6 },
  );
  await fc.assert(fc.asyncProperty(servers, async (servers) => {
    const sizes = new Map(servers);
    const named = nameToolbelt(toolbelt(Object.fromEntries(servers.map(([s]) => [s, []]))), null);
    const ask: AskResources = ({ slug }, cursor) => {
      const page = Number(cursor ?? 0), own = sizes.get(slug)!;
      const resources = Array.from({ length: own[page] }, (_, n) => ({ uri: `${page}:${n}` }));
      return Promise.resolve(answer(resources, page + 1 < own.length ? `${page + 1}` : undefined));
    };
    const seen: string[] = [];
    let cursor: string | undefined, pages = 0;
    do {
      const page = await resourcesPage(named, cursor, ask, NEVER);
      // A client may ask for a page again.
      assert.deepEqual(await resourcesPage(named, cursor, ask, NEVER), page);
      for (const { uri } of JSON.parse(page.resourcesText)) {
        const { server, uri: own } = routeUri(named, uri)!;
        seen.push(`${server.slug} ${own}`);
      }
      cursor = page.nextCursor;
      pages++;
    } while (cursor !== undefined);
    const all = servers.flatMap(([slug, own]) =>
      own.flatMap((size, page) => Array.from({ length: size }, (_, n) => `${slug} ${page}:${n}`))
    );
    assert.deepEqual(seen.toSorted(), all.toSorted());
    assert.equal(pages, Math.max(...servers.map(([, own]) => own.length)));
  }));
});

Deno.test("resourcesPage refuses every cursor but its own with -32602, and asks nobody", async () => {
  const named = nameToolbelt(toolbelt({ a: [], b: [] }), null);
  let asked = 0;
  const ask: AskResources = () => {
    asked++;
    return Promise.resolve(answer([]));
  };
  await fc.assert(fc.asyncProperty(forged, async (cursor) => {
    await assert.rejects(
      resourcesPage(named, cursor, ask, NEVER),
      (error) => error instanceof RpcError && error.code === -32602,
    );
  }));
  assert.equal(asked, 0);
});

Deno.test("resourcesPage keeps the text of a resource whose URI is shown as it is", async () => {
  const named = nameToolbelt(toolbelt({ a: [] }), null);
  const text = `{"uri":"x://1","size":9007199254740993, "_meta":{"f":1.0}}`;
  const page = await resourcesPage(
    named,
    undefined,
    () => Promise.resolve({ kind: "result", text: `{"resources":[${text}]}` }),
    NEVER,
  );
  assert.equal(page.resourcesText, `[${text}]`);
});

Deno.test("resourcesPage names a server whose list is of a type that is not known", async () => {
  const named = nameToolbelt(toolbelt({ a: [] }), null);
  const { resourcesText, unavailable } = await resourcesPage(
    named,
    undefined,
    () => Promise.resolve({ kind: "result", text: `{"resultType":"x/y","resources":[{}]}` }),
    NEVER,
  );
  assert.equal(resourcesText, "[]");
  assert.match(unavailable.a, /a result of the type "x\/y"/);
});

Deno.test("resourcesPage carries no cursor that is too long, and takes none that asks a server twice", async () => {
  const named = nameToolbelt(toolbelt({ a: [] }), null);
  const long = await resourcesPage(
    named,
    undefined,
    () => Promise.resolve(answer([], "x".repeat(100_000))),
    NEVER,
  );
  assert.equal(long.nextCursor, undefined);
  assert.match(long.unavailable.a, /cursor is over 2 KiB/);
  let asked = 0;
  const ask: AskResources = () => {
    asked++;
    return Promise.resolve(answer([]));
  };
  const forge = (pending: unknown) => btoa(JSON.stringify({ pending }));
  for (
    const cursor of [
      forge([["id-of-a", "1"], ["id-of-a", "2"]]),
      forge([["id-of-a"]]),
      forge("id-of-a"),
      forge([["id-of-a", "x".repeat(3000)]]),
      btoa(`{"after":"a"}`),
      "%%%",
      7,
      null,
      {},
    ]
  ) {
    await assert.rejects(
      resourcesPage(named, cursor, ask, NEVER),
      (error) => error instanceof RpcError && error.code === -32602,
      String(cursor),
    );
  }
  assert.equal(asked, 0);
  const stranger = await resourcesPage(named, forge([["id-of-b", "1"]]), ask, NEVER);
  assert.equal(stranger.resourcesText, "[]");
  assert.equal(asked, 0, "a server that the agent is not connected to");
});
