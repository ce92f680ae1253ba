import type { Hono } from "hono";
import { chatFunction } from "../chat/function.ts";
import { bearerOf } from "../models/bearer.ts";
import type { AppDeps } from "./deps.ts";
import { keepAlive } from "./keep_alive.ts";

/** The chat's function, as programs have it: at the path that it has on Supabase too. */
export function chatFunctionRoutes(deps: AppDeps): Hono {
  return chatFunction(deps, async (token, workspace) => {
    const bearer = await bearerOf(deps, token, workspace);
    if (!bearer?.scopes.includes("tools:call")) return null;
    return { ...bearer.user, within: bearer.workspace.id };
  }, keepAlive);
}
