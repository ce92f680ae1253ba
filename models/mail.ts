/** What Mooring writes to people. How it is sent is the entry point's choice: an edge isolate sends none. */
import type { StandingAccess } from "./standing_access.ts";

export interface Mail {
  to: string;
  subject: string;
  /** Plain text: it looks the same everywhere, and hides no link behind another. */
  text: string;
}

/** Hands a mail over to be delivered. @throws {Error} when nobody takes it */
export type SendMail = (mail: Mail) => Promise<void>;

/** A link to choose a new password. */
export function passwordLinkMail(to: string, link: string): Mail {
  return {
    to,
    subject: "A new password for Mooring",
    text: `Somebody, most likely you, asked for a new password for your account at Mooring:

${link}

The link works once and for an hour. Choosing a password with it signs you out everywhere.
If it was not you, leave this mail alone: nothing is changed.
`,
  };
}

/** That a password was changed by a link, and what goes on without it. */
export function passwordChangedMail(to: string, standing: StandingAccess, endAt: string): Mail {
  const { tokens, clients } = standing;
  const goesOn = tokens + clients === 0 ? "" : `
What needs no password goes on working: access tokens of yours (${tokens}), and clients that you
let in (${clients}). End them here, if they are not all yours:

${endAt}
`;
  return {
    to,
    subject: "Your password for Mooring was changed",
    text: `The password of your account at Mooring was changed by a link to a new one, and you were
signed out everywhere.
${goesOn}
If it was not you, ask for a new password now, and look who else reads your mail.
`,
  };
}

/** That an account signs in with another address now; to the one before. */
export function addressChangedMail(to: string, now: string): Mail {
  return {
    to,
    subject: "Your address at Mooring was changed",
    text: `You sign in to Mooring with ${now} from now on, and no more with this address.

If it was not you, tell whoever runs your Mooring.
`,
  };
}

/** An invitation's link. Names are other people's words: of one line, and no more than a line. */
export function invitationMail(
  to: string,
  invitation: { invitedBy: string; workspace: string; role: string; days: number; link: string },
): Mail {
  const { role, days, link } = invitation;
  const waits = days === 1 ? "a day" : `${days} days`;
  const invitedBy = oneLine(invitation.invitedBy), workspace = oneLine(invitation.workspace);
  return {
    to,
    subject: `An invitation to ${workspace} at Mooring`,
    text: `${invitedBy} invites you to the workspace ${workspace} at Mooring, as ${role}:

${link}

The link lets one person in, once, within ${waits}.
If you do not know what this is about, leave this mail alone.
`,
  };
}

function oneLine(text: string): string {
  return text.replaceAll(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, " ").trim().slice(0, 80);
}
