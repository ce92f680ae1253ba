import type { AskedInput, BuildCode, ListedEntry } from "../models/catalog_entries.ts";
import type { Placement } from "../models/placement.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import type { Wish, WishNow, WishState } from "../models/wishes.ts";
import { BuildConsent, InputFields, ToolboxChoice } from "./deploy_form.tsx";
import { Difference } from "./difference.tsx";
import { Form, useMay } from "./form.tsx";
import { TierField } from "./isolation.tsx";
import { Allowances } from "./marketplace.tsx";
import { PackageFacts } from "./package.tsx";
import { count, Empty, Field, Mistake, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** A wish in the list. */
export interface ListedWish {
  wish: WishNow;
  /** What a person has to see, give or agree to first, as sentences; with none they approve it in the list. */
  first: string[];
}

export interface WishListProps {
  open: ListedWish[];
  /** There are more open ones than are shown. */
  hasMore: boolean;
  ended: Wish[];
}

/** What agents ask people to let them do. */
export function Wishes(props: WishListProps) {
  const url = useUrl();
  return (
    <>
      <h1>Requests</h1>
      <p class="lead">
        What agents ask people to let them do. It is done when you approve it, as you, and not
        before.
      </p>
      <div hx-sse:connect={url("/requests/live")} hx-swap="none"></div>
      <OpenWishes {...props} />
      <EndedWishes {...props} />
    </>
  );
}

export function OpenWishes({ open, hasMore }: WishListProps) {
  const url = useUrl();
  return (
    <div id="open-requests">
      {open.length === 0
        ? (
          <Empty title="Nothing waits for you">
            <p>
              An agent that may manage Mooring asks here before it deploys or connects a server. Say
              on <a href={url("/agents")}>an agent's page</a> what it may do.
            </p>
          </Empty>
        )
        : open.map(({ wish, first }) => (
          <section class="card wish" aria-labelledby={`wish-${wish.id}`}>
            <h2 id={`wish-${wish.id}`}>
              <a href={url(`/requests/${wish.id}`)}>{titleOf(wish)}</a>
            </h2>
            <Reason of={wish} />
            <p class="help">
              Asked <Time at={wish.createdAt} relative />. <Brief wish={wish} /> {first.join(" ")}
            </p>
            <div class="acts">
              {first.length === 0 && (
                <Form action={url(`/requests/${wish.id}/approve`)}>
                  <input type="hidden" name="version" value={wish.version} />
                  <button aria-label={`Approve: ${titleOf(wish)}`}>Approve</button>
                </Form>
              )}
              <a
                class="button quiet"
                href={url(`/requests/${wish.id}`)}
                aria-label={`Look at it: ${titleOf(wish)}`}
              >
                Look at it
              </a>
            </div>
          </section>
        ))}
      {hasMore && <p class="help">There are more: they are shown as these are decided.</p>}
    </div>
  );
}

/** What it would be allowed, in a line. */
function Brief({ wish: { asked, row, server } }: { wish: WishNow }) {
  if (asked.operation === "connect_server") {
    return server && <>It would get {count(server.approvedTools.length, "approved tool")} of it.</>;
  }
  if (!row) return null;
  const { hosts } = row.entry.network;
  return (
    <>
      It would reach {row.entry.package.registry === "remote"
        ? "the host of its URL"
        : hosts.length === 0
        ? "no network"
        : hosts.join(", ")}.
    </>
  );
}

const STATES: Record<WishState, { name: string; sign: string; status: string }> = {
  open: { name: "Waits for a person", sign: "○", status: "waiting" },
  approved: { name: "Approved", sign: "●", status: "ready" },
  rejected: { name: "Rejected", sign: "■", status: "stopped" },
  withdrawn: { name: "Withdrawn by the agent", sign: "■", status: "stopped" },
  expired: { name: "Expired", sign: "◌", status: "stopped" },
};

function State({ of }: { of: WishState }) {
  const { name, sign, status } = STATES[of];
  return (
    <span class={`status ${status}`}>
      <span aria-hidden="true">{sign}</span> {name}
    </span>
  );
}

export function EndedWishes({ ended }: Pick<WishListProps, "ended">) {
  const url = useUrl();
  return (
    <section class="card" id="ended-requests" aria-labelledby="ended-title">
      <h2 id="ended-title">Decided</h2>
      {ended.length === 0 ? <p class="help">None yet.</p> : (
        <ul class="rows">
          {ended.map((wish) => (
            <li>
              <a href={url(`/requests/${wish.id}`)}>{titleOf(wish)}</a>
              <State of={wish.state} />
              <small>
                {wish.decidedByName && <>{visibleText(wish.decidedByName)},</>}
                <Time at={wish.decidedAt ?? wish.expiresAt} relative />
              </small>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

export interface WishProps {
  wish: WishNow;
  /** The person is one who may. */
  mayDecide: boolean;
  /** Of the entry, what it asks and what of that a person gives. */
  asked: AskedInput[];
  secrets: AskedInput[];
  buildCode: BuildCode | null;
  toolboxes: Toolbox[];
  placement: Placement;
  nothingFits: string | null;
  values: Record<string, string>;
  mistakes: Record<string, string>;
  mistake?: string;
}

/** One wish: exactly what would be done, and the forms that decide it. */
export function WishPage(props: WishProps) {
  const { wish } = props;
  const url = useUrl();
  return (
    <>
      <p class="crumbs">
        <a href={url("/requests")}>Requests</a> / {visibleText(wish.wants)}
      </p>
      <h1>{titleOf(wish)}</h1>
      <p>
        <State of={wish.state} />
      </p>
      <Reason of={wish} />
      <p class="help">
        Asked by <a href={url(`/agents/${wish.agentId}`)}>{visibleText(wish.agentName)}</a>{" "}
        <Time at={wish.createdAt} />. {wish.state === "open" && (
          <>
            It expires <Time at={wish.expiresAt} />.
          </>
        )}
      </p>
      {wish.state === "open"
        ? (
          <div class="columns">
            <section aria-labelledby="what">
              <h2 id="what">What will be done</h2>
              {wish.asked.operation === "deploy_server"
                ? <Deploys {...props} />
                : <Connects wish={wish} />}
            </section>
            <section class="card decision" aria-labelledby="decide">
              <h2 id="decide">Your decision</h2>
              {props.mayDecide
                ? (
                  <>
                    <Approve {...props} />
                    <Reject {...props} />
                  </>
                )
                : <p class="help">Members of the workspace decide this.</p>}
            </section>
          </div>
        )
        : <Outcome wish={wish} />}
    </>
  );
}

function Outcome({ wish }: { wish: WishNow }) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="outcome">
      <h2 id="outcome">What became of it</h2>
      <p>
        {wish.state === "expired"
          ? (
            <>
              Nobody decided it before <Time at={wish.expiresAt} />.
            </>
          )
          : (
            <>
              {STATES[wish.state].name}
              {wish.decidedByName && ` by ${visibleText(wish.decidedByName)}`}
              {wish.decidedAt && (
                <>
                  {" "}
                  <Time at={wish.decidedAt} />
                </>
              )}.
            </>
          )}
      </p>
      {wish.answer && (
        <>
          <p class="help">The agent was told:</p>
          <blockquote>{visibleText(wish.answer)}</blockquote>
        </>
      )}
      {wish.state === "approved" && (wish.serverId
        ? (
          <p>
            <a href={url(`/servers/${wish.serverId}`)}>The server</a>
            {wish.asked.operation === "deploy_server" &&
              ": its tools wait for your approval once they are listed."}
          </p>
        )
        : <p>The server is gone since.</p>)}
    </section>
  );
}

function Deploys({ wish, asked, buildCode }: WishProps) {
  const url = useUrl();
  const { row, basis } = wish;
  if (wish.asked.operation !== "deploy_server") return null;
  if (!row) {
    return (
      <p class="notice bad">
        The marketplace does not have the entry any more, so it cannot be deployed. Reject the
        request: the agent may ask for another one.
      </p>
    );
  }
  const { entry } = row;
  const given = Object.entries(wish.asked.values);
  return (
    <>
      {row.obstacle !== null && (
        <p class="notice bad">It cannot be deployed here: {visibleText(row.obstacle)}.</p>
      )}
      <p>
        A new server, <strong>{visibleText(wish.asked.name)}</strong>, is deployed from{" "}
        <a href={url(`/marketplace/${entry.slug}`)}>{visibleText(entry.title)}</a>{" "}
        in the marketplace ({visibleText(row.sourceName)}), as you. Its tools wait for approval as
        any server's.
      </p>
      {wish.isChanged && "entry" in basis && <Changed before={basis.entry} now={entry} />}
      <p class="prose">{visibleText(entry.summary)}</p>
      <dl class="facts">
        <PackageFacts of={entry.package} />
      </dl>
      <h3>What the agent fills in</h3>
      {given.length === 0 ? <p class="help">Nothing.</p> : (
        <dl class="facts">
          {given.map(([field, value]) => (
            <>
              <dt>{labelOf(asked, field)}</dt>
              <dd>
                <code class="value">{visibleText(value)}</code>
              </dd>
            </>
          ))}
        </dl>
      )}
      <h3>What it will be allowed</h3>
      <Allowances entry={entry} buildCode={buildCode} />
    </>
  );
}

/** What of an entry is other than when the agent asked. */
function Changed({ before, now }: { before: ListedEntry; now: ListedEntry }) {
  const differing = (Object.keys({ ...before, ...now }) as (keyof ListedEntry)[])
    .filter((member) => JSON.stringify(before[member]) !== JSON.stringify(now[member]));
  const membersOf = (entry: ListedEntry) =>
    Object.fromEntries(
      differing.filter((member) => entry[member] !== undefined)
        .map((member) => [member, entry[member]]),
    );
  return (
    <div class="notice">
      <p>
        <strong>The entry was changed since the agent asked.</strong>{" "}
        What you approve is what it is now.
      </p>
      <Difference title="When it asked" approved={membersOf(before)} now={membersOf(now)} />
    </div>
  );
}

function Connects({ wish: { agentName, agentId, server } }: { wish: WishNow }) {
  const url = useUrl();
  if (!server) {
    return (
      <p class="notice bad">
        The server is gone, so nothing can be connected to it. Reject the request.
      </p>
    );
  }
  const { approvedTools } = server;
  return (
    <>
      <p>
        The agent <a href={url(`/agents/${agentId}`)}>{visibleText(agentName)}</a>{" "}
        is connected to the server{" "}
        <a href={url(`/servers/${server.id}`)}>{visibleText(server.name)}</a>{" "}
        and may call its tools from then on. You can disconnect it on the agent's page.
      </p>
      {approvedTools.length === 0
        ? <p>None of its tools is approved yet, so it gets none before some are.</p>
        : (
          <>
            <p>
              {count(approvedTools.length, "tool")}{" "}
              approved now, unless the agent gets only picked ones:
            </p>
            <ul class="tools-named">
              {approvedTools.slice(0, 200).map((name) => (
                <li>
                  <code>{visibleText(name)}</code>
                </li>
              ))}
            </ul>
          </>
        )}
    </>
  );
}

function Approve(props: WishProps) {
  const { wish, values, mistakes } = props;
  const url = useUrl();
  const { row, server } = wish;
  const isDeploy = wish.asked.operation === "deploy_server";
  if (isDeploy ? !row || row.obstacle !== null : !server) return null;
  if (isDeploy && !props.placement.fits.some(({ isChoosable }) => isChoosable)) {
    return (
      <p class="notice bad">
        {props.nothingFits}. <a href={url("/toolboxes")}>See toolboxes</a>.
      </p>
    );
  }
  return (
    <Form action={url(`/requests/${wish.id}/approve`)}>
      <Mistake>{props.mistake}</Mistake>
      {isDeploy && props.nothingFits && !props.mistake && (
        <p class="notice">
          {props.nothingFits}. <a href={url("/toolboxes")}>See toolboxes</a>.
        </p>
      )}
      <input type="hidden" name="version" value={wish.version} />
      {isDeploy && row && (
        <>
          {props.secrets.length > 0 && (
            <p class="help">
              Agents give no secrets: these are yours to give, and it never sees them.
            </p>
          )}
          <InputFields asked={props.secrets} values={values} mistakes={mistakes} keptSecrets={[]} />
          <ToolboxChoice {...props} />
          <TierField
            tier={values["option.tier"] ?? row.entry.tier}
            entryTier={row.entry.tier}
            mistake={mistakes["option.tier"]}
          />
          {props.buildCode && (
            <BuildConsent
              code={props.buildCode}
              isGiven={values["consent.build"] === "true"}
              mistake={mistakes["consent.build"]}
            />
          )}
        </>
      )}
      <button>{isDeploy ? "Approve and deploy" : "Approve and connect"}</button>
    </Form>
  );
}

function Reject({ wish, values, mistakes }: WishProps) {
  const url = useUrl();
  const action = url(`/requests/${wish.id}/reject`);
  if (!useMay()(action)) return null;
  return (
    <details class="confirm" open={mistakes.answer !== undefined}>
      <summary class="button quiet">Reject</summary>
      <Form action={action}>
        <Field
          name="answer"
          label="Why, for the agent"
          rows={3}
          value={values.answer}
          mistake={mistakes.answer}
          help="It may be left empty. The agent is told so, and does not get to ask for the same within a day."
        />
        <button class="danger">Reject</button>
      </Form>
    </details>
  );
}

/** The agent's own words, told apart from ours. */
function Reason({ of: { reason, agentName } }: { of: Wish }) {
  if (reason === null) return null;
  return (
    <blockquote>
      {visibleText(reason)}
      <footer class="help">{visibleText(agentName)}, in its own words</footer>
    </blockquote>
  );
}

function titleOf({ agentName, wants }: Wish): string {
  return visibleText(`${agentName} asks to ${wants}`);
}

function labelOf(asked: AskedInput[], field: string): string {
  const input = asked.find((each) => each.field === field)?.input;
  return visibleText(input?.label ?? input?.name ?? field);
}
