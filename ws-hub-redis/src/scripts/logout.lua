-- Connections of the calling node are over.
-- KEYS: user and log, each. ARGV, each: name of the user, connection, and what it acknowledged and did not send, or nothing:
-- the number before the first one, those that are acknowledged, those that may be.

-- Whether a login has brought what comes after a number.
local function has_brought(user, from)
  for _, login in ipairs(living(user)) do
    if login.start <= from and login.confirmed >= user.cursor then return true end
  end
  return false
end

-- Whether the cursor goes back to what was not sent: unless another login has brought that. What came after it must be known
-- to those who are there, or they would get it twice.
local function gives_back(user, had_logins, unsent)
  local after, acknowledged, upto = unpack('>I8I8I8', unsent)
  if user.cursor <= after then return false end
  -- its login went before; nobody has got anything since, if the cursor is still where it was
  if not had_logins then return acknowledged <= user.cursor and user.cursor <= upto end
  return not has_brought(user, after) and (user.cursor <= upto or has_brought(user, upto))
end

local function give_back(user, log, place, unsent)
  for at = 1, #(user.given_back or ''), 16 do
    -- the answer to an earlier call was lost
    if sub(user.given_back, at, at + 15) == place then return end
  end
  local length = call('LLEN', log)
  user.cursor = max(unpack('>I8', unsent), user.top - length)
  user.renew = 0
  if length > 0 then keep(log) end
  save(user)
  call('HSET', user.key, 'g', sub((user.given_back or '') .. place, -64))
end

allow_oom()
local at = ARG
for i = KEY, #KEYS, 2 do
  local name, connection, unsent = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local user, log = load(KEYS[i]), KEYS[i + 1]
  local had_logins = #user.logins > 0
  remove(user, function(login) return login.node == here and login.connection == connection end)
  if not has_login_at(user, here) then call('SREM', members, name) end
  if unsent ~= '' and gives_back(user, had_logins, unsent) then give_back(user, log, here .. connection, unsent) end
  cover(user, name)
  rest(user)
end
return 'OK'
