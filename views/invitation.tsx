import type { Person } from "../models/identity.ts";
import type { OpenInvitation } from "../models/invitations.ts";
import { Form } from "./form.tsx";
import { Mark } from "./layout.tsx";
import { Field, Mistake, Time } from "./parts.tsx";
import { ROLE_SAYS } from "./role.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface JoinProps {
  invitation: OpenInvitation;
  token: string;
  /** Who is signed in, if anybody is. */
  person: Person | null;
  isMember: boolean;
  values?: { email: string; name: string };
  mistakes?: Record<string, string>;
  mistake?: string;
}

/** Where an invitation's link leads. */
export function Join(props: JoinProps) {
  const { invitation, token, person, isMember } = props;
  const url = useUrl();
  const name = visibleText(invitation.workspaceName);
  return (
    <section class="card door">
      <h1>
        <Mark /> Join {name}
      </h1>
      <p>
        {visibleText(invitation.invitedBy)} invites you to the workspace <strong>{name}</strong> as
        {" "}
        <strong>{invitation.role}</strong>. {ROLE_SAYS[invitation.role]}
      </p>
      <p class="help">
        The invitation lets one person in, until <Time at={invitation.expiresAt} />.
      </p>
      {isMember
        ? (
          <>
            <p>You are in this workspace already. Leave the invitation to whom it was meant for.</p>
            <Form action={url(`/workspaces/${invitation.workspaceId}/switch`)}>
              <button>Open it</button>
            </Form>
          </>
        )
        : person
        ? (
          <Form action={url("/join")}>
            <input type="hidden" name="token" value={token} />
            <p>You are signed in as {person.email}.</p>
            <button>Join</button>
          </Form>
        )
        : <SignUp {...props} />}
    </section>
  );
}

function SignUp({ token, values, mistakes = {}, mistake }: JoinProps) {
  const url = useUrl();
  const back = encodeURIComponent(`/join?token=${token}`);
  return (
    <>
      <p>
        You have an account? <a href={url(`/sign-in?next=${back}`)}>Sign in</a>{" "}
        and come back here. Otherwise make one:
      </p>
      <Mistake>{mistake}</Mistake>
      <Form action={url("/join/sign-up")}>
        <input type="hidden" name="token" value={token} />
        <Field
          name="email"
          label="Email address"
          type="email"
          required
          autocomplete="email"
          value={values?.email}
          mistake={mistakes.email}
        />
        <Field
          name="name"
          label="Your name"
          required
          autocomplete="name"
          value={values?.name}
          mistake={mistakes.name}
        />
        <Field
          name="password"
          label="Password"
          type="password"
          required
          minlength={10}
          autocomplete="new-password"
          mistake={mistakes.password}
          help="At least 10 characters. A few random words make a good one."
        />
        <button>Make the account and join</button>
      </Form>
    </>
  );
}
