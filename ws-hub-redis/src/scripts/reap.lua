-- A node is gone: ends logins that it had. The calling node is the one that is gone.
-- KEYS: user, each. ARGV: how long ago its lease must have ended, in ms; then the names of the users.
-- Answers how many users are left, or -1 if it is not gone.
allow_oom()
local over = call('ZSCORE', leases, here)
if over and tonumber(over) > now - tonumber(ARGV[ARG]) then return -1 end
lease_of[here] = false
for i = KEY, #KEYS do
  local user, name = load(KEYS[i]), ARGV[ARG + 1 + i - KEY]
  remove(user, function(login) return login.node == here end)
  cover(user, name)
  rest(user)
  call('SREM', members, name)
end
local left = call('SCARD', members)
if left == 0 then
  call('ZREM', leases, here)
  call('HDEL', pushes, here)
end
return left
