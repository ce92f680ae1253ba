import type { Hono } from "hono";
import { chatFunction } from "../chat/function.ts";
import { bearerOfToken } from "../models/personal_tokens.ts";
import type { AppDeps } from "./deps.ts";
import { keepAlive } from "./keep_alive.ts";

/** The chat's function, as programs have it: at the path that it has on Supabase too. */
export function chatFunctionRoutes(deps: AppDeps): Hono {
  return chatFunction(deps, async (token) => {
    const bearer = await bearerOfToken(deps.db, token);
    if (!bearer?.scopes.includes("tools:call")) return null;
    return { ...bearer.user, within: bearer.workspace.id };
  }, keepAlive);
}
