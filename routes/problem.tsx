import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { Conflict, Forbidden, Invalid, NotFound, REMOVED_MEANWHILE } from "../models/errors.ts";
import { errorFields, type Log } from "../models/log.ts";
import { Problem } from "../views/session.tsx";
import type { Env } from "./deps.ts";
import { page } from "./render.tsx";

/** A page for what cannot be served. */
export function showProblem(
  c: Context<Env>,
  status: ContentfulStatusCode,
  title: string,
  message: string,
  { requestId, next }: { requestId?: string; next?: { name: string; path: string } } = {},
) {
  const body = <Problem title={title} message={message} requestId={requestId} next={next} />;
  return page(c, title, body, status);
}

/** Turns what was thrown into a page. What is not a person's to mend goes to the log alone. */
export function problem(log: Log) {
  return async (error: Error, c: Context<Env>): Promise<Response> => {
    if (await isUnreadForm(error, c)) {
      const message = "The form could not be read: it is empty, or not written as a form is. " +
        "Nothing was kept. Go back and send it again.";
      return showProblem(c, 400, "Not readable", message);
    }
    if (error instanceof NotFound) return showProblem(c, 404, "Not found", `${error.message}.`);
    if (error instanceof Forbidden) return showProblem(c, 403, "Not allowed", `${error.message}.`);
    if (error instanceof Conflict) {
      return showProblem(c, 409, "It changed meanwhile", `${error.message}.`);
    }
    if (error instanceof Invalid) {
      return showProblem(c, 422, "That does not hold", `${error.message}.`);
    }
    if (error instanceof HTTPException) {
      const isForeign = error.status === 403;
      const message = isForeign
        ? "The form came from another site, or BASE_URL is not the address in your browser."
        : "The request could not be read.";
      return showProblem(c, error.status as ContentfulStatusCode, "Refused", message);
    }
    // A malformed id in an address is an unknown one to Postgres's uuid type.
    if ((error as { code?: string }).code === "22P02") {
      return showProblem(c, 404, "Not found", "There is no such page. It may have been removed.");
    }
    // A foreign key: what a row hangs on went after it was looked for.
    if ((error as { code?: string }).code === "23503") {
      return showProblem(c, 409, "It changed meanwhile", `${REMOVED_MEANWHILE}.`);
    }
    // U+0000 and half a surrogate pair, which Postgres's text cannot hold.
    if (["22021", "22P05"].includes((error as { code?: string }).code ?? "")) {
      return showProblem(c, 422, "That does not hold", "A text must not hold a NUL character.");
    }
    // Postgres's disk_full: a person can mend that, and must hear that nothing was kept.
    if ((error as { code?: string }).code === "53100") {
      const message = "The disk that holds the database is full, so nothing was saved. Free some " +
        "space on it and try again.";
      log.error("The database's disk is full", { request: c.get("requestId") });
      return showProblem(c, 507, "The disk is full", message, { requestId: c.get("requestId") });
    }
    log.error("A request failed", { request: c.get("requestId"), ...errorFields(error) });
    const message = "Mooring failed to serve this. Nothing you sent was kept in part; try again.";
    return showProblem(c, 500, "Something went wrong", message, { requestId: c.get("requestId") });
  };
}

/** Whether a form could not be read as one, whichever route wanted it: Hono keeps what came of reading. */
async function isUnreadForm(error: Error, c: Context<Env>): Promise<boolean> {
  try {
    await c.req.bodyCache.formData;
    return false;
  } catch (why) {
    return why === error;
  }
}
