import type { PastRun, TrialOutcome, TrialRun } from "../models/trial_runs.ts";
import { Contents, Tree } from "./content.tsx";
import { definitionText } from "./difference.tsx";
import { Form } from "./form.tsx";
import { Confirm, duration, Empty, Time } from "./parts.tsx";
import { type AskedQuestion, QuestionForm } from "./question.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface RunProps {
  run: TrialRun;
  questions: AskedQuestion[];
}

/** Where a tool is tried. */
export function trialPath(serverId: string, tool: string): string {
  return `/servers/${serverId}/tools/${encodeURIComponent(tool)}`;
}

/** Where a run is shown. */
export function runPath(
  { serverId, tool, id }: Pick<TrialRun, "serverId" | "tool" | "id">,
): string {
  return `${trialPath(serverId, tool)}/runs/${id}`;
}

/** One run, kept true while it lasts. */
export function Run(props: RunProps) {
  const { run } = props;
  const url = useUrl();
  return (
    <section class="card" id={`run-${run.id}`} aria-labelledby="run-title">
      {run.state === "running" && (
        <div
          hx-sse:connect={url(`${runPath(run)}/live?questions=${questionIds(run)}`)}
          hx-swap="none"
        >
        </div>
      )}
      <h2 id="run-title">Run</h2>
      <RunHead run={run} />
      <RunQuestions {...props} />
      <RunOutcome run={run} />
    </section>
  );
}

/** Which questions wait, for the live updates: others are news, and the same ones somebody types in. */
export function questionIds({ questions }: Pick<TrialRun, "questions">): string {
  return questions.map(({ id }) => id).join(",");
}

export function RunHead({ run }: { run: TrialRun }) {
  const url = useUrl();
  const { progress } = run;
  const ratio = progress && progress.total !== undefined && progress.total > 0
    ? `${progress.progress} of ${progress.total}`
    : progress && String(progress.progress);
  return (
    <div id="run-head">
      <p role="status">
        {WORDS[run.state]}{" "}
        <small>
          Begun <Time at={run.startedAt} relative />
        </small>
      </p>
      {run.state === "running" && (
        <>
          <p>
            {progress?.total
              ? (
                <progress max={progress.total} value={progress.progress} aria-label="Progress">
                  {ratio}
                </progress>
              )
              : <progress aria-label="Progress"></progress>}
            {ratio && <small>{ratio}</small>}
            {progress?.message && <>{visibleText(progress.message)}</>}
          </p>
          {run.cancelAsked ? <p>Cancelling it…</p> : (
            <Form action={url(`${runPath(run)}/cancel`)}>
              <button class="quiet">Cancel the call</button>
            </Form>
          )}
          <noscript>
            <p>
              <a href={url(runPath(run))}>Look again</a> for how far it is.
            </p>
          </noscript>
        </>
      )}
      {run.refused.length > 0 && (
        <p class="notice">
          The server asked for what a page cannot give and was told so:{" "}
          {run.refused.map((method) => visibleText(REFUSED[method] ?? method)).join(", ")}. An
          agent's client may be able to.
        </p>
      )}
    </div>
  );
}

const WORDS: Record<TrialRun["state"], string> = {
  running: "◐ The tool is at work.",
  ended: "The call has ended.",
  cancelled: "■ Cancelled.",
  lost:
    "▲ Lost: the replica of Mooring that made this call is gone, so nobody knows how it ended. " +
    "It may have run.",
};

const REFUSED: Record<string, string> = {
  "sampling/createMessage": "an answer of a model (sampling)",
  "roots/list": "a list of folders (roots)",
};

export function RunQuestions({ run, questions }: RunProps) {
  return (
    <div id="run-questions" aria-live="polite">
      {questions.map((asked) => (
        <QuestionForm
          asked={asked}
          asker="The server"
          action={`${runPath(run)}/answers/${asked.question.id}`}
          target="#run-questions"
        />
      ))}
    </div>
  );
}

export function RunOutcome({ run }: { run: TrialRun }) {
  const { outcome } = run;
  if (!outcome) {
    return (
      <div id="run-outcome">
        {run.state === "ended" && (
          <p class="notice">
            Its answer is not kept: it was over 4 MiB, or over 64 KiB and the tool was called again
            since.
          </p>
        )}
      </div>
    );
  }
  return (
    <div id="run-outcome" aria-live="polite">
      <Outcome outcome={outcome} durationMs={run.durationMs ?? 0} />
    </div>
  );
}

/** What a tool answered: every kind of content that there is. */
export function Outcome({ outcome, durationMs }: { outcome: TrialOutcome; durationMs: number }) {
  const { result, error } = outcome;
  const isError = Boolean(error) || result?.isError === true;
  const content = Array.isArray(result?.content) ? result.content : [];
  return (
    <div class={`outcome ${isError ? "bad" : "good"}`} id="outcome">
      <h3>
        {error ? "▲ The call failed" : isError ? "▲ The tool failed" : "✓ The tool answered"}{" "}
        <small>after {duration(durationMs)}</small>
      </h3>
      {error && (
        <p>
          {visibleText(String(error.message))} <small>(code {error.code})</small>
        </p>
      )}
      {error?.data !== undefined && <pre tabindex={0}>{definitionText(error.data ?? null)}</pre>}
      <Contents blocks={content} />
      {result?.structuredContent !== undefined && (
        <details open>
          <summary>Structured content</summary>
          <Tree value={result.structuredContent} />
        </details>
      )}
      {result && content.length === 0 && result.structuredContent === undefined && (
        <p>It has no content.</p>
      )}
      {result && (
        <details>
          <summary>All of the result</summary>
          <pre tabindex={0}>{definitionText(result)}</pre>
        </details>
      )}
    </div>
  );
}

export interface HistoryProps {
  serverId: string;
  tool: string;
  runs: PastRun[];
  shown?: string;
}

/** This person's last runs. */
export function History({ serverId, tool, runs, shown }: HistoryProps) {
  const url = useUrl();
  const path = trialPath(serverId, tool);
  return (
    <section class="card" id="history" aria-labelledby="history-title">
      <h2 id="history-title">Your last runs</h2>
      {runs.length === 0
        ? (
          <Empty title="No run yet">
            <p>Call the tool: what you sent and what came back is kept here, for you alone.</p>
          </Empty>
        )
        : (
          <>
            <ul class="events runs">
              {runs.map((run) => (
                <li>
                  <div>
                    <a
                      href={url(`${path}/runs/${run.id}`)}
                      aria-current={run.id === shown ? "true" : undefined}
                    >
                      {ENDED[run.isError ? "failed" : run.state]}
                    </a>{" "}
                    <small>
                      {run.durationMs !== null && <>after {duration(run.durationMs)}</>}{" "}
                      <Time at={run.startedAt} relative />
                    </small>
                    <br />
                    <code>{visibleText(run.argumentsStart ?? "too large to keep")}</code>{" "}
                    {run.argumentsStart !== null && (
                      <a href={url(`${path}?again=${run.id}`)}>Run again</a>
                    )}
                  </div>
                </li>
              ))}
            </ul>
            <Confirm
              label="Clear"
              title="Forget your runs of this tool?"
              action={url(`${path}/runs/clear`)}
            >
              <p>
                Their arguments and answers are deleted, and one that still runs is cancelled. The
                log of calls keeps that they were made.
              </p>
            </Confirm>
          </>
        )}
    </section>
  );
}

const ENDED: Record<PastRun["state"] | "failed", string> = {
  running: "◐ Running",
  ended: "✓ Answered",
  failed: "▲ Failed",
  cancelled: "■ Cancelled",
  lost: "▲ Lost",
};
