/** What a server asks of a person, as a form, and the answer out of the form. */
import type { Context } from "hono";
import { Invalid } from "../models/errors.ts";
import type { AskedQuestion } from "../views/question.tsx";
import type { Env } from "./deps.ts";
import { changed, formFor, valueOf, type Values } from "./schema_form.ts";

type Question = AskedQuestion["question"];

/** A question with its form, as far as that is filled in. */
export function askedQuestion(question: Question, typed: Values = {}): AskedQuestion {
  if (question.params.mode === "url") return { question, form: null, values: {}, mistakes: {} };
  const { part, values } = questionForm(question, typed);
  return { question, form: part, values, mistakes: {} };
}

/** The answer that a form holds, or the form to be shown again. @throws {Invalid} it is neither */
export function answerOf(
  question: Question,
  { action, act, ...values }: Values,
):
  | { answer: { action: "accept" | "decline" | "cancel"; content?: unknown } }
  | { again: AskedQuestion; status: 200 | 422 } {
  if (act !== undefined) {
    return { again: askedQuestion(question, changed(values, act)), status: 200 };
  }
  if (action !== "accept" && action !== "decline" && action !== "cancel") {
    throw new Invalid("Answer, decline or dismiss the question");
  }
  if (action !== "accept" || question.params.mode === "url") return { answer: { action } };
  const { part, values: filled } = questionForm(question, values);
  try {
    return { answer: { action, content: valueOf(part, filled) } };
  } catch (error) {
    if (!(error instanceof Invalid)) throw error;
    const { fields: mistakes, message: mistake } = error;
    return { again: { ...askedQuestion(question, values), mistakes, mistake }, status: 422 };
  }
}

function questionForm({ id, params }: Question, values: Values) {
  return formFor(
    params.requestedSchema ?? { type: "object", properties: {} },
    values,
    `answer-${id}`,
    true,
  );
}

/** A form's texts; files as base64, in the field that they stand beside. */
export async function valuesOf(c: Context<Env>): Promise<Values> {
  const values: Values = Object.create(null);
  const files: [string, File][] = [];
  for (const [name, value] of await c.req.formData()) {
    // Of several of one name the last, as a checkbox behind its hidden twin.
    if (typeof value === "string") values[name] = value.replaceAll("\r\n", "\n");
    else if (value.size > 0) files.push([name, value]);
  }
  for (const [name, file] of files) {
    values[name.replace(/#file$/, "")] = base64(new Uint8Array(await file.arrayBuffer()));
  }
  return values;
}

function base64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(binary);
}
