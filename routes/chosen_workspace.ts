import type { Context } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import type { Env } from "./deps.ts";

const NAME = "mooring_workspace";

/** The workspace that the browser last chose; whether the person is in it is not known here. */
export function chosenWorkspace(c: Context<Env>, baseUrl: URL): string | undefined {
  return baseUrl.protocol === "https:" ? getCookie(c, NAME, "host") : getCookie(c, NAME);
}

/** Has the browser's next requests be about a workspace. */
export function chooseWorkspace(c: Context<Env>, baseUrl: URL, workspaceId: string): void {
  const secure = baseUrl.protocol === "https:";
  setCookie(c, NAME, workspaceId, {
    ...(secure ? { prefix: "host" } : {}),
    secure,
    path: "/",
    httpOnly: true,
    sameSite: "Lax",
    maxAge: 60 * 60 * 24 * 365,
  });
}
