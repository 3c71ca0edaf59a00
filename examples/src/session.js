// Who is signed in on this server, by a cookie that scripts cannot read.
//
//   import { ownDirectory, signIn, signOut, signedIn } from './session.js';
//
//   await signedIn()        // the name, or null
//   await signIn('anna')    // the name as the server took it; throws an Error with its answer
//   await signOut()
//
// All windows of a browser share its cookies, and with them the user. For a user of its own a window signs in below a
// directory of its own, and has its WebSocket there:
//
//   const here = ownDirectory();    // '/w/…/'
//   await signIn('anna', here);
//   new WebSocket(`${here}chat`)

const request = (directory, method, body) => fetch(`${directory}session`, { method, body, cache: 'no-store' });

export async function signedIn(directory = '/') {
  const answer = await request(directory, 'GET');
  return answer.ok ? answer.json() : null;
}

export async function signIn(name, directory = '/') {
  const answer = await request(directory, 'POST', new URLSearchParams({ name }));
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

export async function signOut(directory = '/') {
  await request(directory, 'DELETE');
}

/** The same for as long as the window is open, and no secret: it is the cookie that tells who it is. */
export function ownDirectory() {
  sessionStorage.window ??= crypto.getRandomValues(new Uint32Array(2)).join('-');
  return `/w/${sessionStorage.window}/`;
}
