// STAND-IN until branch toolbelt's is merged: the contract's signatures over tools alone.
import type { Toolbelt, ToolbeltServer, ToolbeltTool } from "../models/toolbelts.ts";
import { publicNames } from "./names.ts";
import { RpcCode, RpcError } from "./revisions.ts";

export interface NamedToolbelt extends Toolbelt {
  byName: Map<string, ToolbeltTool>;
}
export function nameToolbelt(toolbelt: Toolbelt, scope: string | null): NamedToolbelt {
  const servers = toolbelt.servers.filter(({ slug }) => scope === null || slug === scope);
  const tools = toolbelt.tools.filter(({ serverSlug }) => scope === null || serverSlug === scope);
  return {
    ...toolbelt,
    servers,
    tools,
    byName: scope === null ? publicNames(tools) : new Map(tools.map((tool) => [tool.name, tool])),
  };
}
const PAGE = 200;
export function listPage(
  named: NamedToolbelt,
  what: "tools" | "prompts" | "templates",
  cursor: unknown,
): { items: any[]; nextCursor?: string } {
  if (what !== "tools") return { items: [] };
  const names = [...named.byName.keys()].sort();
  let after = "";
  if (cursor !== undefined) {
    try {
      after = JSON.parse(atob(cursor as string)).after;
      if (typeof after !== "string") throw 0;
    } catch {
      throw new RpcError(RpcCode.invalidParams, "The cursor is not one that tools/list gave", 200);
    }
  }
  const rest = names.filter((name) => name > after);
  const page = rest.slice(0, PAGE);
  return {
    items: page.map((name) => ({ ...named.byName.get(name)!.definition, name })),
    ...(rest.length > PAGE ? { nextCursor: btoa(JSON.stringify({ after: page.at(-1) })) } : {}),
  };
}
export const findTool = (named: NamedToolbelt, name: string): any => named.byName.get(name);
export const findPrompt = (_: NamedToolbelt, _name: string): any => undefined;
export const argumentsText = (_: any, text: string) => text;
export const routeUri = (
  named: NamedToolbelt,
  uri: string,
): { server: ToolbeltServer; uri: string } | null =>
  named.servers.length > 0 ? { server: named.servers[0], uri } : null;
export const shownUri = (_: NamedToolbelt, _server: ToolbeltServer, uri: string) => uri;
export async function resourcesPage(_n: NamedToolbelt, _c: unknown, _ask: any): Promise<any> {
  return { resourcesText: "[]" };
}
export const findTools = (
  named: NamedToolbelt,
  _q: string,
  _l: number,
): any[] => [...named.byName.values()];
export const callToolTarget = (_n: NamedToolbelt, _a: any): any => undefined;
export const instructionsOf = (_: NamedToolbelt): string | undefined =>
  "Tools of several MCP servers, named server__tool. Those listed were approved by a person.";
