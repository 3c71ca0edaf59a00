-- Registers a connection of a user, and reads its first messages.
-- KEYS: user, log. ARGV: name of the user, connection, limit and 1 (0: none), 1 to replace, the place that the client knows or
-- nothing, messages and bytes of the page.
-- Answers LEASE, or MANY, or: OK, number, top, its id, cursor, after which number, 1 if nothing is missing before that,
-- entries.
if not is_alive(here) then return { 'LEASE' } end
allow_oom()
local user, log = load(KEYS[KEY]), KEYS[KEY + 1]
local name, connection, limit = ARGV[ARG], ARGV[ARG + 1], tonumber(ARGV[ARG + 2])
local place = ARGV[ARG + 4]

remove(user, function(login) return not is_alive(login.node) end)
local mine
for _, login in ipairs(user.logins) do
  -- the answer to an earlier call was lost
  if login.node == here and login.connection == connection then mine = login end
end
if not mine and limit > 0 and #user.logins >= limit - 1 then
  cover(user, name)
  return { 'MANY' }
end

local before = drop_old(user, log)
if not mine then user.last = max(micros, user.last + 1) end
if not mine and ARGV[ARG + 3] == '1' then
  local told = { [here] = true }
  for _, login in ipairs(remove(user, function() return true end)) do
    if not told[login.node] then
      told[login.node] = true
      tell(login.node, 2, pack('>I8', user.last) .. named(name))
    end
  end
end

local is_covered = false
for _, login in ipairs(user.logins) do
  if login ~= mine and login.start <= user.cursor then is_covered = true end
end
local goes_on = place ~= '' and is_place(user, log, before, place)
local after = is_covered and user.top or user.cursor
if goes_on then
  after = unpack('>I8', place)
  -- the client has got everything up to there
  user.cursor = max(user.cursor, after)
end
if mine then after = max(mine.start, before) else
  mine = { number = user.last, node = here, connection = connection, start = after, confirmed = after }
  user.logins[#user.logins + 1] = mine
  put(user, mine)
  call('SADD', members, name)
  call('PERSIST', user.key)
end
advance(user)
if user.top > 0 then delivered(user, log) end
save(user)
cover(user, name, mine)

local is_whole = (place == '' or goes_on) and 1 or 0
local out = { 'OK', mine.number, user.top, user.id, user.cursor, after, is_whole }
before = user.top - call('LLEN', log)
if after < user.top then page(out, log, before, after, 33, tonumber(ARGV[ARG + 5]), tonumber(ARGV[ARG + 6])) end
return out
