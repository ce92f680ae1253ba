import type { CallBody, KeptText } from "../models/call_bodies.ts";
import type { Call } from "../models/calls.ts";
import type { Retention } from "../models/retention.ts";
import type { Role } from "../models/workspaces.ts";
import { OUTCOMES } from "./calls.tsx";
import { Tree } from "./content.tsx";
import { definitionText } from "./difference.tsx";
import { bytes, count, duration, Time } from "./parts.tsx";
import { reaches } from "./role.ts";
import { Outcome } from "./trial_run.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface CallProps {
  call: Call;
  body: CallBody | null;
  retention: Retention;
  role: Role;
}

/** One call: what is known of it, and what was said, where that is kept. */
export function CallPage(props: CallProps) {
  const { call } = props;
  const url = useUrl();
  return (
    <>
      <p>
        <a href={url("/calls")}>Calls</a>
      </p>
      <h1>
        {call.serverSlug} / {visibleText(call.tool)}
      </h1>
      <section class="card" aria-labelledby="call-facts">
        <h2 id="call-facts">
          <span class={`status ${call.outcome}`}>{OUTCOMES[call.outcome]}</span>
        </h2>
        {call.error && <p>{visibleText(call.error)}</p>}
        <dl class="facts">
          <dt>Began</dt>
          <dd>
            <Time at={call.startedAt} />
          </dd>
          <dt>Took</dt>
          <dd>{duration(call.durationMs)}</dd>
          <dt>Called by</dt>
          <dd>
            {call.agentId && call.agentName
              ? <a href={url(`/agents/${call.agentId}`)}>{call.agentName}</a>
              : call.via === "trial"
              ? "a person, on the tool's page"
              : "an agent that was removed"}
          </dd>
          <dt>Server</dt>
          <dd>
            {call.serverId
              ? <a href={url(`/servers/${call.serverId}`)}>{call.serverSlug}</a>
              : `${call.serverSlug}, which was removed`}
          </dd>
          <dt>Sent</dt>
          <dd>{bytes(call.requestBytes)}</dd>
          <dt>Received</dt>
          <dd>{bytes(call.responseBytes)}</dd>
        </dl>
      </section>
      <section class="card" aria-labelledby="call-said">
        <h2 id="call-said">What was said</h2>
        <What {...props} />
      </section>
    </>
  );
}

function What({ call, body, retention, role }: CallProps) {
  const url = useUrl();
  if (!body) {
    return (
      <p class="help">
        {call.via === "trial"
          ? "What a person tries is theirs alone: they find it on the tool's page."
          : !reaches(role, "admin") && retention.keepsBodies
          ? "It may be kept, and is for owners and admins to see."
          : retention.keepsBodies
          ? `It is not kept: it was before that was turned on, or more than ${
            count(retention.bodiesKeptDays, "day")
          } ago.`
          : (
            <>
              It is not kept in this workspace. An owner can{" "}
              <a href={url("/workspace#kept")}>have it kept</a>.
            </>
          )}
      </p>
    );
  }
  const { arguments: args, answer } = body;
  return (
    <>
      <h3>Arguments</h3>
      <Note of={args} />
      {args.value !== null && (
        <>
          <Tree value={args.value} />
          <details>
            <summary>As JSON</summary>
            <pre tabindex={0}>{definitionText(args.value)}</pre>
          </details>
        </>
      )}
      {answer
        ? (
          <>
            <Note of={answer} />
            {answer.value !== null && (
              <Outcome
                outcome={answer.kind === "error"
                  ? { error: answer.value as { code: number; message: string } }
                  : { result: answer.value as Record<string, unknown> }}
                durationMs={call.durationMs}
              />
            )}
          </>
        )
        : <p>It got no answer: the caller went away.</p>}
    </>
  );
}

function Note({ of: { value, masked, isCut } }: { of: KeptText }) {
  const said = [
    value === null && "It was over 1 MiB, of which nothing is kept.",
    masked > 0 && `${count(masked, "value")} masked (•••).`,
    isCut && value !== null && "It was long: only its beginning is kept.",
  ].filter(Boolean);
  return said.length ? <p class="help">{said.join(" ")}</p> : null;
}
