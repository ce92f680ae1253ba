/**
 * What a program can do with Mooring, as data: each operation has its scopes, the schemas of what goes in
 * and comes out, and the verb of a model that it runs. The HTTP API (routes.ts), its OpenAPI document and
 * page are made of this list, and whatever else lets programs act can be too.
 */
import { z } from "zod";
import { parseExactly } from "../../models/exact_json.ts";
import type { Scope, TokenBearer } from "../../models/personal_tokens.ts";
import type { AppDeps } from "../deps.ts";

/** Who asks, and with what. */
export interface Asked {
  deps: AppDeps;
  bearer: Pick<TokenBearer, "tokenId" | "user" | "workspace" | "scopes">;
  /** A uuid that is the same when the same request is sent again. */
  idempotencyKey: string;
  signal: AbortSignal;
  /** An agent that manages Mooring, which may forget that it asked: what is there is not made again. */
  isAgent?: boolean;
}

export interface Operation {
  /** `verb_noun`, once in the list; OpenAPI's operationId. */
  name: string;
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Below /api/v1; `{member}` is a member of the input. */
  path: string;
  /** All of them are needed. */
  scopes: readonly Scope[];
  /** One line, and what else there is to know of it. */
  summary: string;
  description?: string;
  /**
   * All that is given. Over HTTP members travel in the path where it names them, else in the query of a
   * GET or DELETE and in the JSON body of the others.
   */
  input: z.ZodObject;
  /** What is answered: what it does not name does not leave. Null: nothing. */
  output: z.ZodType | null;
  status: 200 | 201 | 204;
  /** It makes something new each time: a request with an Idempotency-Key does so once. */
  isCreating: boolean;
  /** The member that says of which version a change was made; over HTTP also If-Match. */
  basedOn?: string;
  /** The version of what is answered, for ETag. */
  versionOf?(output: unknown): number | string;
  run(asked: Asked, input: Record<string, unknown>): Promise<unknown>;
}

/** A value as JSON.stringify takes it: where the wire has a text, a model may have a time. */
export type Jsonable<T> = T extends string ? T | Date
  : T extends (infer Item)[] ? Jsonable<Item>[]
  : T extends object ? { [Name in keyof T]: Jsonable<T[Name]> }
  : T;

/** Says what an operation is; the schemas type what `run` is given and gives. */
export function operation<Input extends z.ZodObject, Output extends z.ZodType | null = null>(
  { output, ...said }:
    & Omit<Operation, "input" | "output" | "status" | "isCreating" | "run" | "versionOf">
    & {
      input: Input;
      output?: Output;
      isCreating?: boolean;
      versionOf?(output: z.output<NonNullable<Output>>): number | string;
      run(
        asked: Asked,
        input: z.output<Input>,
      ): Promise<Output extends z.ZodType ? Jsonable<z.input<Output>> : void>;
    },
): Operation {
  return {
    isCreating: false,
    status: !output ? 204 : said.isCreating ? 201 : 200,
    ...said,
    output: output ?? null,
  } as Operation;
}

/** Whether a change has to say what it was made from. */
export function needsBasis({ input, basedOn }: Pick<Operation, "input" | "basedOn">): boolean {
  return basedOn !== undefined && !input.shape[basedOn].safeParse(undefined).success;
}

/** What an operation answers, as its schema has it; where that takes anything, numbers keep all of their digits. */
export function answerOf({ output }: Operation, result: unknown): unknown {
  return output && output.parse(parseExactly(JSON.stringify(result)));
}

/** Postgres's integer. */
export const Int = z.int().min(0).max(2 ** 31 - 1);

/** The members by which a list is read in parts. */
export const paging = {
  limit: z.int().min(1).max(200).default(50).describe("How many at most"),
  cursor: z.string().min(1).max(500).optional()
    .describe("nextCursor of the part before; without it the first part"),
};

/** A part of a list. */
export function partOf<Item extends z.ZodType>(item: Item) {
  return z.object({
    items: z.array(item),
    nextCursor: z.string().nullable().describe("For the next part; null: this is the last"),
  });
}
