-- Appends messages to the logs of users, and pushes them to their nodes.
-- KEYS: user and log, each. ARGV, each: name of the user, id, 1 if it may be there already, the place that is known or
-- nothing, the message or nothing if it is that of the one before.
-- Answers, each: number, previous id, connections on other nodes, evicted.

local function find_again(user, log, id)
  local last = call('LRANGE', log, -64, -1)
  for i = #last, 1, -1 do
    if sub(last[i], 1, 8) == id then return user.top - #last + i, sub(last[i], 9, 16) end
  end
end

-- What is over the bounds goes. Returns how many were not delivered.
local function fit(user, log, length)
  local first, evicted = user.top + 1 - length, 0
  while length > max_messages or user.bytes - user.before > max_bytes do
    local second = call('LINDEX', log, 1)
    if not second then break end
    call('LPOP', log)
    user.before = unpack('>I8', second, 17)
    if first > user.cursor then
      evicted = evicted + 1
      user.cursor = first
    end
    first, length = first + 1, length - 1
  end
  return evicted
end

local failover

-- After a failover, the number of a message may have been that of one that was lost: logins from before may have got that.
local function note_failover(user)
  failover = failover or tonumber(call('HGET', pushes, 'failover') or 0)
  local at, top, oldest = 0, user.top - 1, failover
  if user.base then at, top = unpack('>I8I8', user.base) end
  if at == failover then return end
  for _, login in ipairs(user.logins) do oldest = min(oldest, login.number) end
  if oldest == failover then return end
  if oldest >= at then top = user.top - 1 end
  call('HSET', user.key, 'b', pack('>I8I8', failover, top))
end

local function append(user, log, id, known, message)
  if user.top == 0 then
    -- a user who was forgotten before their log was
    if call('LLEN', log) > 0 then call('DEL', log) end
    if known ~= '' then
      user.top, user.id = unpack('>I8', known), sub(known, 9, 16)
      user.cursor = user.top
    end
  end
  local previous, bytes = user.id, user.bytes
  local length = call('RPUSH', log, id .. previous .. pack('>I8I8', bytes, now) .. message)
  user.top, user.id, user.bytes = user.top + 1, id, bytes + #message - 1
  local evicted = 0
  if length == 1 then
    -- what was there before is gone
    evicted = max(0, user.top - 1 - user.cursor)
    user.cursor, user.before = max(user.cursor, user.top - 1), bytes
  end
  evicted = evicted + fit(user, log, length)
  if evicted > 0 then advance(user) end
  if user.renew < now then
    keep(log)
    if #user.logins == 0 then keep(user.key) end
    user.renew = now + (ttl > 0 and floor(ttl / 10) or WEEK)
  end
  save(user)
  if #user.logins > 0 then note_failover(user) end
  return user.top, previous, evicted
end

local out, message = {}, nil
local at = ARG
for i = KEY, #KEYS, 2 do
  local name, id, again, known = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if ARGV[at + 4] ~= '' then message = ARGV[at + 4] end
  at = at + 5
  local user, log = load(KEYS[i]), KEYS[i + 1]
  local number, previous, evicted
  if again == '1' and user.top > 0 then number, previous = find_again(user, log, id) end
  local is_new = not number
  if is_new then number, previous, evicted = append(user, log, id, known, message) end
  local elsewhere, told = 0, {}
  for _, login in ipairs(living(user)) do
    local node = login.node
    if node ~= here then elsewhere = elsewhere + 1 end
    if is_new and not told[node] then
      told[node] = true
      tell(node, 1, pack('>I8', number) .. id .. previous .. pack('>I8', now) .. named(name) .. message)
    end
  end
  out[#out + 1], out[#out + 2] = number, previous
  out[#out + 1], out[#out + 2] = elsewhere, evicted or 0
end
return out
