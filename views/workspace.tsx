import type { ChatModel } from "../models/chat_models.ts";
import type { Event } from "../models/events.ts";
import type { Invitation } from "../models/invitations.ts";
import type { Member } from "../models/members.ts";
import type { Retention } from "../models/retention.ts";
import type { Holdings, Workspace } from "../models/workspaces.ts";
import { ChatModelCard } from "./chat_model.tsx";
import { Form } from "./form.tsx";
import { Confirm, Copy, count, Field, Time } from "./parts.tsx";
import { Kept } from "./retention.tsx";
import { reaches, ROLE_SAYS, ROLES } from "./role.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface WorkspaceProps {
  workspace: Workspace;
  /** The asker's own id. */
  me: string;
  members: Member[];
  /** The open ones; none for whom they are not. */
  invitations: Invitation[];
  /** What its conversations are held with. */
  chatModel: ChatModel | null;
  holdings: Holdings;
  retention: Retention;
  events: Event[];
  /** The link of an invitation made just now: the one time it is shown. */
  newLink?: string;
  /** The address that it was meant for, and could not be sent to. */
  unsentTo?: string;
  sendsMail: boolean;
  values?: Record<string, string>;
  mistakes?: Record<string, string>;
}

/** The workspace itself: who is in it, who may come, and its end. */
export function WorkspacePage(props: WorkspaceProps) {
  const { workspace } = props;
  const mayManage = reaches(workspace.role, "admin");
  return (
    <>
      <h1>{visibleText(workspace.name)}</h1>
      <p class="lead">
        You are <strong>{workspace.role}</strong> here. {ROLE_SAYS[workspace.role]}
      </p>
      <div class="columns wide-left">
        <div>
          <Members {...props} />
          <Kept {...props} />
          <WorkspaceEvents {...props} />
        </div>
        <div>
          {mayManage && <Invitations {...props} />}
          <ModelOfChat {...props} />
          {mayManage && <Name {...props} />}
          <End {...props} />
        </div>
      </div>
    </>
  );
}

function ModelOfChat({ workspace, chatModel, values, mistakes }: WorkspaceProps) {
  // Values of another form of the page are none of its own.
  const isOwn = values?.provider !== undefined;
  return (
    <ChatModelCard
      workspace={workspace}
      model={chatModel}
      values={isOwn ? values : undefined}
      mistakes={isOwn ? mistakes : undefined}
    />
  );
}

function Members({ workspace, me, members }: WorkspaceProps) {
  const url = useUrl();
  const mayManage = reaches(workspace.role, "admin");
  const owners = members.filter(({ role }) => role === "owner").length;
  return (
    <section class="card" aria-labelledby="members">
      <h2 id="members">{count(members.length, "member")}</h2>
      <ul class="rows people">
        {members.map((member) => {
          const { userId, role } = member;
          const called = visibleText(member.name || member.email);
          const isLastOwner = role === "owner" && owners === 1;
          const mayChange = mayManage && reaches(workspace.role, role) && !isLastOwner;
          const path = url(`/workspace/members/${userId}`);
          return (
            <li>
              <span>
                <strong>{called}</strong> {userId === me && "(you)"}
                <small>
                  {visibleText(member.email)}, since <Time at={member.since} />
                </small>
              </span>
              {mayChange
                ? (
                  <Form action={`${path}/role`} class="inline">
                    <select name="role" aria-label={`Role of ${called}`}>
                      {ROLES.filter((each) => reaches(workspace.role, each)).map((each) => (
                        <option value={each} selected={each === role}>{each}</option>
                      ))}
                    </select>
                    <button class="quiet" aria-label={`Save the role of ${called}`}>Save</button>
                  </Form>
                )
                : <span class="badge">{role}</span>}
              {mayChange && userId !== me && (
                <Confirm
                  label="Remove"
                  title={`Remove ${called} from the workspace?`}
                  action={`${path}/remove`}
                >
                  <p>
                    They see nothing of it any more, and their own access tokens for it end. What
                    they made stays. Agents' tokens that they know go on working: revoke those on
                    the agents' pages.
                  </p>
                </Confirm>
              )}
            </li>
          );
        })}
      </ul>
      <details>
        <summary>What each role may do</summary>
        <dl class="facts">
          {ROLES.toReversed().map((role) => (
            <>
              <dt>{role}</dt>
              <dd>{ROLE_SAYS[role]}</dd>
            </>
          ))}
        </dl>
      </details>
    </section>
  );
}

function Invitations(props: WorkspaceProps) {
  const { workspace, invitations, newLink, unsentTo, sendsMail, values, mistakes } = props;
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="invitations" id="invitations-card">
      <h2 id="invitations">Invite somebody</h2>
      {newLink && (
        <div class="notice good" role="alert">
          <p>
            {unsentTo && `The mail server did not take the mail to ${unsentTo}. `}
            Copy this link and send it. It lets one person in, once, and is not shown again:
          </p>
          <Copy id="invitation-link" text={newLink} label="the invitation's link" />
        </div>
      )}
      <Form action={url("/workspace/invitations")} class="inline">
        <div class="field">
          <label for="invitation-role">Role</label>
          <select id="invitation-role" name="role">
            {ROLES.filter((role) => role !== "owner").map((role) => (
              <option value={role} selected={role === (values?.role ?? "member")}>{role}</option>
            ))}
          </select>
        </div>
        <div class="field">
          <label for="invitation-days">The link waits</label>
          <select id="invitation-days" name="days">
            {["1", "7", "30"].map((days) => (
              <option value={days} selected={days === (values?.days ?? "7")}>
                {count(Number(days), "day")}
              </option>
            ))}
          </select>
        </div>
        {sendsMail && (
          <Field
            name="email"
            label="Send it to"
            type="email"
            placeholder="bea@example.com"
            value={values?.email}
            mistake={mistakes?.email}
            help="Left empty: a link to send yourself."
          />
        )}
        <button>{sendsMail ? "Invite" : "Make a link"}</button>
      </Form>
      {invitations.length === 0
        ? <p class="help">No invitation to {visibleText(workspace.name)} is open.</p>
        : (
          <ul class="rows people">
            {invitations.map(({ id, role, invitedBy, createdAt, expiresAt }) => (
              <li>
                <span>
                  For a new <strong>{role}</strong>
                  <small>
                    by {visibleText(invitedBy)}, <Time at={createdAt} relative />; until{" "}
                    <Time at={expiresAt} />
                  </small>
                </span>
                <Confirm
                  label="Revoke"
                  title="Revoke the invitation?"
                  action={url(`/workspace/invitations/${id}/revoke`)}
                >
                  <p>Its link opens nothing any more.</p>
                </Confirm>
              </li>
            ))}
          </ul>
        )}
    </section>
  );
}

function Name({ workspace, values, mistakes }: WorkspaceProps) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="workspace-name">
      <h2 id="workspace-name">Name</h2>
      <Form action={url("/workspace/name")} class="inline">
        <Field
          name="name"
          label="Name of the workspace"
          required
          value={values?.name ?? workspace.name}
          mistake={mistakes?.name}
        />
        <button>Rename</button>
      </Form>
    </section>
  );
}

/** Leaving it, giving it away, and deleting it. */
function End(props: WorkspaceProps) {
  const { workspace, me, members } = props;
  const url = useUrl();
  const isOwner = workspace.role === "owner";
  const isLastOwner = isOwner && members.filter(({ role }) => role === "owner").length === 1;
  const others = members.filter(({ userId }) => userId !== me);
  return (
    <section class="card settings" aria-labelledby="workspace-end">
      <h2 id="workspace-end">{isOwner ? "Leave, transfer, delete" : "Leave"}</h2>
      {isLastOwner
        ? (
          <p class="help">
            You are the last owner, so you cannot leave: make another member an owner first.
          </p>
        )
        : (
          <Confirm
            label="Leave"
            title={`Leave ${visibleText(workspace.name)}?`}
            action={url("/workspace/leave")}
          >
            <p>
              You see nothing of it any more, and your own access tokens for it end. To come back
              you need a new invitation.
            </p>
          </Confirm>
        )}
      {isOwner && others.length > 0 && (
        <Confirm
          label="Transfer"
          title="Give the workspace to another member?"
          action={url("/workspace/transfer")}
        >
          <p>They become an owner and you an admin. Only an owner can make you one again.</p>
          <div class="field">
            <label for="transfer-to">New owner</label>
            <select id="transfer-to" name="memberId">
              {others.map(({ userId, name, email }) => (
                <option value={userId}>{visibleText(name ? `${name} (${email})` : email)}</option>
              ))}
            </select>
          </div>
        </Confirm>
      )}
      {isOwner && <Deletion {...props} />}
    </section>
  );
}

function Deletion({ workspace, holdings, values, mistakes }: WorkspaceProps) {
  const url = useUrl();
  const { servers, toolboxes, agents, members } = holdings;
  if (servers.length > 0 || toolboxes.length > 0) {
    return (
      <div>
        <p>
          <strong>It cannot be deleted yet.</strong>{" "}
          Nothing may be left running on a host that nobody looks after any more. Remove first:
        </p>
        <ul class="plain">
          {servers.map(({ id, name, isBeingRemoved }) => (
            <li>
              the server <a href={url(`/servers/${id}`)}>{visibleText(name)}</a>
              {isBeingRemoved && ", which its toolbox is removing"}
            </li>
          ))}
          {toolboxes.map(({ id, name, isLocal, isRevoked }) => (
            <li>
              the toolbox <a href={url(`/toolboxes/${id}`)}>{visibleText(name)}</a>
              {isLocal
                ? ": it is this machine's and stays, so this workspace does too"
                : isRevoked
                ? ", which is revoked"
                : ": revoke it, then remove it"}
            </li>
          ))}
        </ul>
      </div>
    );
  }
  return (
    <Confirm
      label="Delete"
      title={`Delete ${visibleText(workspace.name)} for good?`}
      action={url("/workspace/delete")}
      isOpen={mistakes?.confirmation !== undefined}
    >
      <p>
        With it go {count(agents, "agent")}{" "}
        with their tokens, all conversations, calls and events, invitations and access tokens, and
        {" "}
        {count(members, "member")} lose it. Their accounts stay. This cannot be undone.
      </p>
      <Field
        name="confirmation"
        label={`Type ${visibleText(workspace.name)} to confirm`}
        required
        value={values?.confirmation}
        mistake={mistakes?.confirmation}
      />
    </Confirm>
  );
}

/** Who let whom in, and made whom what; and what agents asked for. */
function WorkspaceEvents({ events }: WorkspaceProps) {
  return (
    <section class="card" aria-labelledby="workspace-events">
      <h2 id="workspace-events">What happened here</h2>
      {events.length === 0
        ? (
          <p class="help">
            Invitations, roles, transfers, renames and what agents ask for will be listed here.
          </p>
        )
        : (
          // It scrolls, and nothing in it takes the focus.
          <ol class="events" tabindex={0} aria-labelledby="workspace-events">
            {events.map((event) => (
              <li>
                <Time at={event.at} />
                <span>
                  {visibleText(event.message)}{" "}
                  {event.actorName && <small>by {visibleText(event.actorName)}</small>}
                </span>
              </li>
            ))}
          </ol>
        )}
    </section>
  );
}
