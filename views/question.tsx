import { hostOf } from "./content.tsx";
import { Form } from "./form.tsx";
import { count, Mistake, Time } from "./parts.tsx";
import { type FormPart, SchemaFields } from "./schema_fields.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** What a server asks of a person in the middle of a call, with its form as far as it is filled in. */
export interface AskedQuestion {
  question: {
    id: string;
    /** As MCP has it: `message`, and `requestedSchema` or `url`. */
    params: Record<string, unknown>;
  };
  /** Null for one that sends the person to an address. */
  form: FormPart | null;
  values: Record<string, string>;
  mistakes: Record<string, string>;
  mistake?: string;
}

/** So much of a question is on a page; a server may ask with megabytes. */
const SHOWN_CHARS = 20_000;

/** What a server asks, in its words. What is cut is said: a person answers for all of it. */
export function QuestionText({ params }: Pick<AskedQuestion["question"], "params">) {
  const text = String(params.message ?? ""), more = text.length - SHOWN_CHARS;
  return (
    <>
      <p class="pre">{visibleText(text.slice(0, SHOWN_CHARS))}</p>
      {more > 0 && (
        <p class="help">
          Cut here: the server's text has {count(more, "more character")}{" "}
          that cannot be read on this page.
        </p>
      )}
    </>
  );
}

/**
 * A question of a server's, wherever it is put.
 *
 * @param asker who asks, as a heading's first words
 * @param about what the question is about
 * @param action where the answer goes
 * @param target what htmx swaps when a row is added to a list
 */
export function QuestionForm({ asked, asker, about, until, action, target }: {
  asked: AskedQuestion;
  asker: string;
  about?: string;
  until?: Date;
  action: string;
  target: string;
}) {
  const url = useUrl();
  const { id, params } = asked.question;
  const address = params.mode === "url" ? String(params.url) : null;
  const host = address === null ? null : hostOf(address);
  return (
    <Form
      class="question"
      enctype="multipart/form-data"
      action={url(action)}
      id={`question-${id}`}
      aria-labelledby={`question-${id}-asker`}
    >
      <h3 id={`question-${id}-asker`}>{visibleText(asker)} asks you</h3>
      {about && (
        <p class="help">
          Before it answers <code>{visibleText(about)}</code>
        </p>
      )}
      <QuestionText params={params} />
      <Mistake>{asked.mistake}</Mistake>
      {address !== null && (
        <>
          <p>
            It sends you to{" "}
            <strong>{visibleText(host ?? "an address that is not opened here")}</strong>:{" "}
            <code>{visibleText(address.slice(0, 2000))}</code>
          </p>
          {host && (
            <p>
              <a
                class="button quiet"
                href={address}
                target="_blank"
                rel="noopener noreferrer nofollow"
              >
                Open {visibleText(host)}
              </a>
            </p>
          )}
        </>
      )}
      {asked.form && (
        <>
          <button class="hidden" name="action" value="accept" tabindex={-1} aria-hidden="true">
            Answer
          </button>
          <SchemaFields
            part={asked.form}
            form={{ values: asked.values, mistakes: asked.mistakes, action, target }}
          />
        </>
      )}
      <p class="help">
        {asked.form
          ? "The server gets what you answer. Give it no password."
          : "It opens in another tab, and only when you press. Then say here that you have done it."}
        {until && (
          <>
            {" "}
            It stops waiting <Time at={until} relative />.
          </>
        )}
      </p>
      <p class="acts">
        <button name="action" value="accept">{asked.form ? "Answer" : "I have done it"}</button>
        <button class="quiet" name="action" value="decline" formnovalidate>Decline</button>
        <button class="quiet" name="action" value="cancel" formnovalidate>Dismiss</button>
      </p>
    </Form>
  );
}
