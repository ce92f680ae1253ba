/**
 * One toolbelt out of many servers: what an agent sees of it by which name, in which order, and where
 * a name or a URI leads. Pure functions over what was read; two scopes: `/mcp`, all servers under names
 * of the bridge's own, and `/mcp/{server}`, one server with names untouched.
 */
import { objectMembers, objectText } from "../dtma/protocol.ts";
import type {
  Toolbelt,
  ToolbeltPrompt,
  ToolbeltServer,
  ToolbeltTemplate,
  ToolbeltTool,
} from "../models/toolbelts.ts";
import { arrayItems } from "./messages.ts";
import { publicNames } from "./names.ts";
import { isObject, RpcCode, RpcError } from "./revisions.ts";
import { type Answer, ifComplete } from "./router.ts";
import { SEARCH_TOOLS } from "./search.ts";

/** A toolbelt under the names of a scope. */
export interface NamedToolbelt extends Toolbelt {
  isAggregated: boolean;
  toolsByName: Map<string, ToolbeltTool>;
  promptsByName: Map<string, ToolbeltPrompt>;
  templatesByUri: Map<string, ToolbeltTemplate>;
  /** Of each list the names, in the order in which they are given. */
  order: Record<What, string[]>;
  /** What was listed of each list already, by name: made once, and its text once ({@link itemText}). */
  items: Record<What, Map<string, Item>>;
  /** Whose URIs are that were listed, or led to the only server there was: a hint, not the truth. */
  seenUris: Map<string, string>;
}

type What = "tools" | "prompts" | "templates";
/** A definition as it is listed. */
type Item = Record<string, unknown>;

/** Items on one page of a list. */
const PAGE = 200;
/** How long a server's resources are waited for, before the list goes on without them. */
const RESOURCES_WAIT_MS = 5000;
/** Longest cursor of a server's that is carried in ours: 50 of them still make a short message. */
const CURSOR_LIMIT = 2048;
/** URIs that are remembered as a server's, and the longest of them. */
const SEEN_LIMIT = 10_000, SEEN_LENGTH = 2048;

/**
 * @param scope a server's slug, or null for all servers
 * @param seenUris those of the toolbelt as it was before, which clients know still
 */
export function nameToolbelt(
  toolbelt: Toolbelt,
  scope: string | null,
  seenUris = new Map<string, string>(),
): NamedToolbelt {
  const isIn = (slug: string) => scope === null || slug === scope;
  const servers = toolbelt.servers.filter(({ slug }) => isIn(slug));
  const [tools, prompts, templates] = [toolbelt.tools, toolbelt.prompts, toolbelt.templates]
    .map((all) => all.filter(({ serverSlug }) => isIn(serverSlug))) as [
      ToolbeltTool[],
      ToolbeltPrompt[],
      ToolbeltTemplate[],
    ];
  const isAggregated = scope === null;
  const named = {
    ...{ servers, tools, prompts, templates, presents: toolbelt.presents, isAggregated },
    toolsByName: isAggregated
      ? publicNames(tools)
      : new Map(tools.map((tool) => [tool.shownName, tool])),
    promptsByName: isAggregated
      ? publicNames(prompts)
      : new Map(prompts.map((prompt) => [prompt.name, prompt])),
    templatesByUri: new Map<string, ToolbeltTemplate>(),
    items: { tools: new Map(), prompts: new Map(), templates: new Map() },
    seenUris,
  };
  for (const template of templates) {
    const uri = shownUri(named, serverOf(named, template.serverId), template.name);
    // The first of a URI stands; with several servers each has URIs of its own.
    if (!named.templatesByUri.has(uri)) named.templatesByUri.set(uri, template);
  }
  const sorted = (names: Iterable<string>) => [...names].sort();
  return {
    ...named,
    order: {
      tools: sorted(named.toolsByName.keys()),
      prompts: sorted(named.promptsByName.keys()),
      templates: sorted(named.templatesByUri.keys()),
    },
  };
}

/**
 * One page of what is pinned, in a stable order. The cursor holds the last name that was given, so
 * what comes or goes meanwhile shifts nothing.
 * @throws {RpcError} for a cursor that is none of ours
 */
export function listPage(
  named: NamedToolbelt,
  what: What,
  cursor: unknown,
): { items: Item[]; nextCursor?: string } {
  if (what === "tools" && named.presents === "search") return { items: SEARCH_TOOLS };
  const names = named.order[what];
  const from = cursor === undefined ? 0 : firstAfter(names, nameIn(cursor));
  const page = names.slice(from, from + PAGE);
  return {
    items: page.map((name) => itemOf(named, what, name)),
    ...(from + PAGE < names.length ? { nextCursor: writeCursor({ after: page.at(-1) }) } : {}),
  };
}

function itemOf(named: NamedToolbelt, what: What, name: string): Item {
  const known = named.items[what].get(name);
  if (known) return known;
  const item = what === "tools"
    ? { ...named.toolsByName.get(name)!.definition, name }
    : what === "prompts"
    ? { ...named.promptsByName.get(name)!.definition, name }
    : { ...named.templatesByUri.get(name)!.definition, uriTemplate: name };
  named.items[what].set(name, item);
  return item;
}

const texts = new WeakMap<object, string>();

/**
 * The JSON of an item that {@link listPage} gave, made once: of a thousand tools it takes longer than
 * all else that a list takes.
 */
export function itemText(item: object): string {
  let text = texts.get(item);
  if (text === undefined) texts.set(item, text = JSON.stringify(item));
  return text;
}

/** The tool of a name that {@link listPage} gave. */
export function findTool(named: NamedToolbelt, name: string): ToolbeltTool | undefined {
  return named.toolsByName.get(name);
}

/** The prompt of a name that {@link listPage} gave. */
export function findPrompt(named: NamedToolbelt, name: string): ToolbeltPrompt | undefined {
  return named.promptsByName.get(name);
}

/** The text of a call's arguments, with defaults filled in and fixed values in place of the caller's. */
export function argumentsText(
  { defaults, fixed }: Pick<ToolbeltTool, "defaults" | "fixed">,
  text: string,
): string {
  const [left, set] = [Object.entries(defaults), Object.entries(fixed)];
  if (left.length === 0 && set.length === 0) return text;
  const members = objectMembers(text);
  const missing = left.filter(([name]) => !members.has(name));
  if (missing.length === 0 && set.length === 0) return text;
  // Put together anew, so that a name written twice does not get past a fixed value.
  for (const [name, value] of [...missing, ...set]) members.set(name, JSON.stringify(value));
  return objectText(members);
}

/** What the servers of a toolbelt say of themselves, as it was approved. */
export function instructionsOf({ isAggregated, servers, presents }: NamedToolbelt): string {
  if (!isAggregated) return servers[0]?.instructions ?? "";
  const how = presents === "search"
    ? "Tools of several MCP servers: find those for a task with find_tools, and call one with call_tool."
    : "Tools of several MCP servers, named server__tool. Those listed were approved by a person.";
  const said = servers.flatMap(({ name, slug, instructions }) =>
    instructions ? [`# ${name} (${slug}__…)\n\n${instructions}`] : []
  );
  return [how, ...said].join("\n\n");
}

// ── URIs ───────────────────────────────────────────────────────────────────────────────────────────

const OWN_URI = /^mooring:\/\/([a-z0-9-]+)\/(.*)$/s;

/**
 * A server's URI as the agent sees it. Where another server has resources too each gets a prefix, since
 * two may have the same URI; what is behind the prefix is the server's own, so that a template stays
 * one.
 */
export function shownUri(
  named: Pick<NamedToolbelt, "isAggregated" | "servers">,
  server: ToolbeltServer,
  uri: string,
): string {
  const needsPrefix = named.isAggregated &&
    (hasOtherResources(named, server) || prefixedServer(named, uri) !== null);
  return needsPrefix ? `mooring://${server.slug}/${uri}` : uri;
}

/** Whether a URI of this server's could be taken for another's. */
export function hasOtherResources(
  named: Pick<NamedToolbelt, "servers">,
  { serverId }: ToolbeltServer,
): boolean {
  return withResources(named).some((each) => each.serverId !== serverId);
}

/** A URI with our prefix, taken apart; null without it, or with one that is nobody's here. */
function prefixedServer(
  { servers }: Pick<NamedToolbelt, "servers">,
  uri: string,
): { server: ToolbeltServer; uri: string } | null {
  const [, slug, own] = OWN_URI.exec(uri) ?? [];
  const server = slug === undefined ? undefined : servers.find((each) => each.slug === slug);
  return server ? { server, uri: own } : null;
}

/**
 * Where a URI leads. One without our prefix, as a tool's result may name it, leads to the server that
 * listed it, whose template it fits or whose tool is shown by it, or to the only one there is.
 */
export function routeUri(
  named: NamedToolbelt,
  uri: string,
): { server: ToolbeltServer; uri: string } | null {
  const prefixed = named.isAggregated ? prefixedServer(named, uri) : null;
  if (prefixed) return prefixed;
  const candidates = withResources(named);
  if (candidates.length === 1) {
    if (named.isAggregated) noteUri(named, uri, candidates[0].serverId);
    return { server: candidates[0], uri };
  }
  const whose = (serverId: string | undefined) =>
    candidates.find((each) => each.serverId === serverId);
  const server = whose(named.seenUris.get(uri)) ??
    whose(named.templates.find(({ name }) => fits(name, uri))?.serverId) ??
    whose(named.tools.find(({ definition }) => pageOf(definition) === uri)?.serverId);
  return server ? { server, uri } : null;
}

/** Of two servers that have a URI the first has it without our prefix, for as long as it is there. */
function noteUri({ servers, seenUris }: NamedToolbelt, uri: string, serverId: string): void {
  const known = seenUris.get(uri);
  if (known === serverId || servers.some((each) => each.serverId === known)) return;
  if (known === undefined && (seenUris.size >= SEEN_LIMIT || uri.length > SEEN_LENGTH)) return;
  seenUris.set(uri, serverId);
}

/** The resource that shows a tool's results (extensions/apps): a host reads it by the tool's definition alone. */
function pageOf({ _meta }: { name: string; _meta?: unknown }): unknown {
  if (!isObject(_meta)) return undefined;
  return isObject(_meta.ui) ? _meta.ui.resourceUri : _meta["ui/resourceUri"];
}

function withResources({ servers }: Pick<NamedToolbelt, "servers">): ToolbeltServer[] {
  return servers.filter(({ capabilities }) => isObject(capabilities?.resources));
}

/** Whether a URI may be of a template (RFC 6570): its literal parts, with anything between. */
function fits(template: string, uri: string): boolean {
  let at = 0;
  const literals = template.split(/\{[^}]*\}/);
  for (const [index, literal] of literals.entries()) {
    const found = index === 0 ? (uri.startsWith(literal) ? 0 : -1) : uri.indexOf(literal, at);
    if (found < 0) return false;
    at = found + literal.length;
  }
  const last = literals.at(-1)!;
  return literals.length === 1 ? uri === template : uri.endsWith(last);
}

/** Asks one server for a page of its resources. */
export type AskResources = (
  server: ToolbeltServer,
  cursor: string | undefined,
  signal: AbortSignal,
) => Promise<Answer>;

/**
 * A page of resources, which are not pinned: all servers are asked at once, and one that does not
 * answer in time, or fails, is named in `_meta` and not waited for.
 *
 * @returns the texts of `resources`, whole, and of `_meta` if there is one
 * @throws {RpcError} for a cursor that is none of ours
 */
export async function resourcesPage(
  named: NamedToolbelt,
  cursor: unknown,
  ask: AskResources,
  signal: AbortSignal,
): Promise<{ resourcesText: string; nextCursor?: string; unavailable: Record<string, string> }> {
  const asked = cursor === undefined
    ? withResources(named).map((server) => ({ server, cursor: undefined }))
    : readPending(named, cursor);
  const items: string[] = [], pending: [string, string][] = [];
  const unavailable: Record<string, string> = {};
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(RESOURCES_WAIT_MS)]);
  const answers = await Promise.all(asked.map(async ({ server, cursor }) => {
    if (server.unavailable) return { server, why: server.unavailable };
    try {
      const answer = ifComplete(await ask(server, cursor, deadline));
      return answer.kind === "result"
        ? { server, cursor, members: objectMembers(answer.text) }
        : { server, why: String(JSON.parse(answer.text).message) };
    } catch (error) {
      if (signal.aborted || !deadline.aborted) throw error;
      return { server, why: `It did not list its resources within ${RESOURCES_WAIT_MS / 1000} s` };
    }
  }));
  for (const { server, cursor, members, why } of answers) {
    if (!members) {
      unavailable[server.slug] = why!.slice(0, 500);
      continue;
    }
    const next: unknown = JSON.parse(members.get("nextCursor") ?? "null");
    // Some write an empty one after the last page, and begin anew by it.
    if (cursor === "" && next === "") continue;
    const listed = members.get("resources");
    if (listed?.startsWith("[")) {
      for (const item of arrayItems(listed)) items.push(shownResource(named, server, item));
    }
    if (typeof next !== "string") continue;
    if (next === cursor) unavailable[server.slug] = "The rest of its resources: its pages go round";
    else if (next.length <= CURSOR_LIMIT) pending.push([server.serverId, next]);
    else unavailable[server.slug] = "The rest of its resources: its cursor is over 2 KiB";
  }
  return {
    resourcesText: `[${items.join(",")}]`,
    ...(pending.length > 0 ? { nextCursor: writeCursor({ pending }) } : {}),
    unavailable,
  };
}

function shownResource(named: NamedToolbelt, server: ToolbeltServer, item: string): string {
  const resource: unknown = JSON.parse(item);
  if (!isObject(resource) || typeof resource.uri !== "string") return item;
  const { uri } = resource;
  noteUri(named, uri, server.serverId);
  const shown = shownUri(named, server, uri);
  return shown === uri ? item : objectText(objectMembers(item).set("uri", JSON.stringify(shown)));
}

// ── Cursors ────────────────────────────────────────────────────────────────────────────────────────

function nameIn(cursor: unknown): string {
  const after = readCursor(cursor, "after");
  if (typeof after !== "string") throw badCursor();
  return after;
}

function readPending(named: NamedToolbelt, cursor: unknown) {
  const pending = readCursor(cursor, "pending");
  if (!Array.isArray(pending)) throw badCursor();
  const cursors = new Map<string, string>();
  for (const entry of pending) {
    const [serverId, own] = Array.isArray(entry) ? entry : [];
    const isOurs = typeof serverId === "string" && typeof own === "string" &&
      own.length <= CURSOR_LIMIT && !cursors.has(serverId);
    // A client that writes one itself must not have a server asked many times at once.
    if (!isOurs) throw badCursor();
    cursors.set(serverId, own);
  }
  // One that was disconnected meanwhile has no more pages.
  return withResources(named).filter(({ serverId }) => cursors.has(serverId))
    .map((server) => ({ server, cursor: cursors.get(server.serverId) }));
}

function writeCursor(value: Record<string, unknown>): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(value))));
}

function readCursor(cursor: unknown, member: string): unknown {
  try {
    const bytes = Uint8Array.from(atob(cursor as string), (char) => char.charCodeAt(0));
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (isObject(value) && Object.hasOwn(value, member)) return value[member];
  } catch {
    // Not one of ours: below.
  }
  throw badCursor();
}

function badCursor(): RpcError {
  return new RpcError(RpcCode.invalidParams, "The cursor is not one that this list gave", 200);
}

/** Where the names behind one begin, in a sorted list. */
function firstAfter(names: string[], name: string): number {
  let low = 0, high = names.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (names[middle] > name) high = middle;
    else low = middle + 1;
  }
  return low;
}

function serverOf(named: Pick<NamedToolbelt, "servers">, serverId: string): ToolbeltServer {
  return named.servers.find((server) => server.serverId === serverId)!;
}
