import type { Workspace } from "../models/workspaces.ts";
import { Form } from "./form.tsx";
import { count, Field } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface WorkspacesProps {
  workspaces: Workspace[];
  /** The one that the pages are about. */
  current?: string;
  /** What was typed into the form, when it did not hold. */
  name?: string;
  mistakes?: Record<string, string>;
}

export function Workspaces(props: WorkspacesProps) {
  const { workspaces, current } = props;
  const url = useUrl();
  return (
    <>
      <h1>Workspaces</h1>
      <p class="lead">
        Each has its own members, toolboxes, servers and agents, and sees nothing of any other.
      </p>
      {workspaces.length === 0
        ? <p>You are in no workspace.</p>
        : (
          <section class="card" aria-labelledby="workspaces">
            <h2 id="workspaces">You are in {count(workspaces.length, "workspace")}</h2>
            <ul class="rows">
              {workspaces.map(({ id, name, role }) => (
                <li>
                  <strong>{visibleText(name)}</strong>
                  <small>You are {role} here</small>
                  {id === current
                    ? <a href={url("/workspace")}>Open now: members and settings</a>
                    : (
                      <Form action={url(`/workspaces/${id}/switch`)} class="inline">
                        <button class="quiet" aria-label={`Switch to ${name}`}>Switch</button>
                      </Form>
                    )}
                </li>
              ))}
            </ul>
          </section>
        )}
      <NewWorkspace {...props} />
    </>
  );
}

function NewWorkspace({ name, mistakes = {} }: Pick<WorkspacesProps, "name" | "mistakes">) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="new-workspace">
      <h2 id="new-workspace">New workspace</h2>
      <p class="help">
        You own it. It begins with nothing: add a toolbox, which its servers run on.
      </p>
      <Form action={url("/workspaces")} class="inline">
        <Field
          name="name"
          label="Name"
          required
          value={name}
          mistake={mistakes.name}
          placeholder="Research"
        />
        <button>Create</button>
      </Form>
    </section>
  );
}

/** In answer to a form that was made in a workspace which is not the open one any more. */
export function OtherWorkspace({ open, other }: { open: Workspace; other?: Workspace }) {
  const url = useUrl();
  return (
    <section class="card door">
      <h1>Another workspace is open</h1>
      <p>
        You sent a form of{" "}
        {other
          ? <strong>{visibleText(other.name)}</strong>
          : "a workspace that you are in no more"}, and meanwhile switched to{" "}
        <strong>{visibleText(open.name)}</strong>. Nothing was changed in either.
      </p>
      {other
        ? (
          <>
            <p>
              Switch back, then go back in your browser to the form: what you typed is still there.
            </p>
            <Form action={url(`/workspaces/${other.id}/switch`)}>
              <button>Switch to {visibleText(other.name)}</button>
            </Form>
          </>
        )
        : null}
      <p>
        <a href={url("/")}>To the overview</a>
      </p>
    </section>
  );
}

/** What one sees who is signed in and in no workspace. */
export function NoWorkspace() {
  const url = useUrl();
  return (
    <>
      <section class="card door">
        <h1>No workspace</h1>
        <p>
          Your account belongs to no workspace. Ask the owner or an admin of one for an invitation,
          or make your own.
        </p>
        <p>
          <a href={url("/account")}>Your account</a>
        </p>
        <Form action={url("/sign-out")}>
          <button class="quiet">Sign out</button>
        </Form>
      </section>
      <NewWorkspace />
    </>
  );
}
