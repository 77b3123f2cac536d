/** The first page of the site. */
export const home = `---
layout: home
hero:
  name: Sallyport
  text: Let devices in. Let runs go on.
  tagline: Effect services for pairing, sessions, approval, scoped credentials and resumable runs, mounted into the server that you have.
  image:
    src: /pictures/start-light.png
    alt: The start page, with a run that was left and joined again
  actions:
    - theme: brand
      text: Tutorial
      link: /tutorial
    - theme: alt
      text: Mount it
      link: /mounting
    - theme: alt
      text: Comparisons
      link: /comparisons
features:
  - title: Pairing
    details: A server prints a one-time code; a browser, a phone or a program turns it into a session, in one atomic step.
    link: /pairing-and-sessions
  - title: Sessions
    details: Signed, revocable, with scopes. Revoking one ends its open streams and sockets, and what came from it.
    link: /pairing-and-sessions#the-life-of-a-session
  - title: Runs
    details: A program goes on when its client is gone. Events are numbered and durable; nothing is lost, repeated or done twice.
    link: /runs
  - title: Approval
    details: Who connects from outside waits for the owner, with the same code on both screens.
    link: /connect
  - title: Credentials
    details: Keys of providers, owned by a user, an organisation or the workspace, encrypted at rest.
    link: /scoped-credentials
  - title: Proof
    details: Each promise has tests that cite it. Speed is measured against floors and peers in the same run.
    link: /reliability
---
`
