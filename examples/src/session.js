// Who is signed in on this server, by a cookie that scripts cannot read.
//
//   import { signIn, signOut, signedIn } from './session.js';
//
//   await signedIn()        // the name, or null
//   await signIn('anna')    // the name as the server took it; throws an Error with its answer
//   await signOut()

const request = (method, body) => fetch('/session', { method, body, cache: 'no-store' });

export async function signedIn() {
  const answer = await request('GET');
  return answer.ok ? answer.json() : null;
}

export async function signIn(name) {
  const answer = await request('POST', new URLSearchParams({ name }));
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

export async function signOut() {
  await request('DELETE');
}
