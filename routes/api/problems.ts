/** What a program is told when something cannot be done: problem details (RFC 9457). */
import { z } from "zod";
import { Conflict, Forbidden, Invalid, NotFound, REMOVED_MEANWHILE } from "../../models/errors.ts";
import { errorFields, type Log } from "../../models/log.ts";

/** The kinds of problems, each with its status and what it is called; the page of the API says more. */
export const PROBLEMS = {
  "malformed": [400, "The request could not be read"],
  "unauthenticated": [401, "A personal access token is needed"],
  "scope": [403, "The token may not do this"],
  "forbidden": [403, "Not allowed"],
  "not-found": [404, "Not found"],
  "method": [405, "Not that method"],
  "conflict": [409, "It changed meanwhile"],
  "stale": [412, "It changed meanwhile"],
  "too-large": [413, "Too large"],
  "media-type": [415, "Not JSON"],
  "invalid": [422, "That does not hold"],
  "unconditional": [428, "Say what the change was made from"],
  "too-many": [429, "Too many requests"],
  "internal": [500, "Something went wrong"],
  "disk-full": [507, "The disk is full"],
} as const satisfies Record<string, readonly [number, string]>;
export type ProblemKind = keyof typeof PROBLEMS;

export const Problem = z.object({
  type: z.string().describe("A URL that tells what kind of problem it is"),
  title: z.string(),
  status: z.int(),
  detail: z.string().describe("What happened, and what to do"),
  instance: z.string().optional().describe("The request's id, as the log has it"),
  errors: z.array(z.object({
    pointer: z.string().describe("What does not hold, as a JSON pointer into what was given"),
    detail: z.string(),
  })).optional(),
}).meta({ id: "Problem" });
export type Problem = z.infer<typeof Problem>;

/** Thrown by what reads a request; the models throw their own. */
export class ApiProblem extends Error {
  override name = "ApiProblem";
  constructor(
    readonly kind: ProblemKind,
    detail: string,
    readonly headers: Record<string, string> = {},
    readonly errors?: Problem["errors"],
  ) {
    super(detail);
  }
}

/** What did not hold of an input, member by member. */
export function invalidInput({ issues }: z.ZodError): ApiProblem {
  const errors = issues.flatMap((issue) => {
    const names = issue.code === "unrecognized_keys" ? issue.keys : [null];
    return names.map((name) => ({
      pointer: pointer(name === null ? issue.path : [...issue.path, name]),
      detail: name === null ? issue.message : "There is no such member",
    }));
  });
  const what = errors.length === 1 ? "One member does" : `${errors.length} members do`;
  return new ApiProblem("invalid", `${what} not hold: errors says which and why`, {}, errors);
}

/** The answer for what was thrown. What is not the asker's to mend goes to the log alone. */
export function problemOf(
  error: unknown,
  { base, log, requestId, isConditional }: {
    base: string;
    log: Log;
    requestId: string;
    /** If-Match came with the request. */
    isConditional: boolean;
  },
): Response {
  const { kind, detail, headers = {}, errors } = said(error);
  const shown = kind === "conflict" && isConditional ? "stale" : kind;
  const [status, title] = PROBLEMS[shown];
  if (status >= 500) {
    log.error("A request to the API failed", { request: requestId, ...errorFields(error) });
  }
  const problem: Problem = {
    type: `${base}/api#${shown}`,
    title,
    status,
    detail: detail.endsWith(".") ? detail : `${detail}.`,
    instance: `urn:uuid:${requestId}`,
    ...(errors?.length ? { errors } : {}),
  };
  return Response.json(problem, {
    status,
    headers: {
      ...headers,
      "content-type": "application/problem+json",
      "cache-control": "no-store",
    },
  });
}

/** What of an error its asker is told. */
export function said(
  error: unknown,
): {
  kind: ProblemKind;
  detail: string;
  headers?: Record<string, string>;
  errors?: Problem["errors"];
} {
  if (error instanceof ApiProblem) return { ...error, detail: error.message };
  if (error instanceof NotFound) return { kind: "not-found", detail: error.message };
  if (error instanceof Forbidden) return { kind: "forbidden", detail: error.message };
  if (error instanceof Conflict) return { kind: "conflict", detail: error.message };
  if (error instanceof Invalid) {
    const errors = Object.entries(error.fields).map(([field, detail]) => ({
      pointer: pointer(pathOf(field)),
      detail,
    }));
    return { kind: "invalid", detail: error.message, errors };
  }
  const { code } = (error ?? {}) as { code?: string };
  // A malformed id is an unknown one to Postgres's uuid type.
  if (code === "22P02") return { kind: "not-found", detail: "There is no such thing" };
  // A foreign key: what a row hangs on went after it was looked for.
  if (code === "23503") return { kind: "conflict", detail: REMOVED_MEANWHILE };
  // U+0000 and half a surrogate pair, which Postgres's text cannot hold.
  if (code === "22021" || code === "22P05") {
    return { kind: "invalid", detail: "A text must not hold a NUL character" };
  }
  if (code === "53100") {
    return {
      kind: "disk-full",
      detail:
        "The disk that holds the database is full, so nothing was saved. Free some space on " +
        "it and try again",
    };
  }
  return {
    kind: "internal",
    detail: "Mooring failed to do this. Nothing you sent was kept in part; its log has more",
  };
}

/** Where a form's field is in the input of an operation. */
function pathOf(field: string): string[] {
  if (/^(env|arg)\./.test(field)) return ["inputs", field];
  if (field === "consent.build") return ["agreesToBuildCode"];
  const [, group, name] = /^(option|inputs)\.(.*)$/s.exec(field) ?? [];
  if (group) return [group === "option" ? "options" : group, name];
  return [field];
}

/** RFC 6901, as a fragment. */
function pointer(path: readonly PropertyKey[]): string {
  return "#" +
    path.map((name) =>
      "/" + encodeURIComponent(
        String(name).slice(0, 100).toWellFormed().replaceAll("~", "~0")
          .replaceAll("/", "~1"),
      )
    ).join("");
}
