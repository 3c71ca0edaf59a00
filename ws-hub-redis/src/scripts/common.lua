-- In front of each script; in front of it, `PUBLISH` is the name of the command that publishes.
-- KEYS: 1 leases, 2 numbers of pushes, 3 users of the calling node, if the script changes them; then what the script says.
-- ARGV: 1 the channel of a node without its name, 2 the calling node, then the bounds of a log: 3 messages, 4 bytes, 5 time
-- to live in ms (0: for ever), 6 messages and 7 ms that it keeps after they are delivered; then what the script says.
--
-- A user is a hash. `m` has the id of the top and six numbers (top, cursor, bytes of all messages, bytes before the first one,
-- when to renew the expiry, last login), as MessagePack, in which most are one byte; `L` and the number of a login has the
-- login: node, connection, and as MessagePack start, confirmed;
-- `k` has the last login that was closed, and the frame; `g` has the places that have given messages back; `b` has the time of
-- the last failover that logins are from before, and the last number that was surely not given twice.
-- A log is a list. An entry: id, previous id, bytes before it, time, and the message. The first number is not stored: it is
-- top + 1 - length, so a list that is gone leaves nothing wrong behind.
local call, pack, unpack, sub, byte = redis.call, struct.pack, struct.unpack, string.sub, string.byte
local max, min, floor = math.max, math.min, math.floor
local time = call('TIME')
local now, micros = time[1] * 1000 + floor(time[2] / 1000), time[1] * 1000000 + time[2]
local NOTHING, WEEK = string.rep('\0', 8), 7 * 24 * 3600 * 1000
local leases, pushes, members = KEYS[1], KEYS[2], KEYS[3]
local channel, here = ARGV[1], ARGV[2]
local max_messages, max_bytes, ttl = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local kept, history = tonumber(ARGV[6]), tonumber(ARGV[7])
-- where in KEYS and ARGV the rest begins
local KEY, ARG = 4, 8

-- A write that changes nothing and is never refused: after it, the others of a script are not, even when memory is full.
local function allow_oom() call('HDEL', pushes, '') end

local lease_of = {}
local function is_alive(node)
  local is = lease_of[node]
  if is == nil then
    local over = call('ZSCORE', leases, node)
    is = over and tonumber(over) > now or false
    lease_of[node] = is
  end
  return is
end

-- Pushes something to a node, with the next number.
local function tell(node, kind, body)
  call(PUBLISH, channel .. node, pack('>BBI8', 1, kind, call('HINCRBY', pushes, node, 1)) .. body)
end

local function named(name) return pack('>I2', #name) .. name end

local function load(key)
  local user = { key = key, top = 0, cursor = 0, bytes = 0, before = 0, renew = 0, last = 0, id = NOTHING, logins = {} }
  local flat = call('HGETALL', key)
  for i = 1, #flat, 2 do
    local field, value = flat[i], flat[i + 1]
    local kind = byte(field)
    if kind == 76 then
      local login = { number = unpack('>I8', field, 2), node = sub(value, 1, 8), connection = sub(value, 9, 16) }
      login.start, login.confirmed = cmsgpack.unpack(sub(value, 17))
      user.logins[#user.logins + 1] = login
    elseif kind == 109 then
      user.id = sub(value, 1, 8)
      user.top, user.cursor, user.bytes, user.before, user.renew, user.last = cmsgpack.unpack(sub(value, 9))
    elseif kind == 107 then user.fence = value
    elseif kind == 103 then user.given_back = value
    elseif kind == 98 then user.base = value
    end
  end
  return user
end

local function save(user)
  local numbers = cmsgpack.pack(user.top, user.cursor, user.bytes, user.before, user.renew, user.last)
  call('HSET', user.key, 'm', user.id .. numbers)
end

local function field_of(login) return 'L' .. pack('>I8', login.number) end

local function put(user, login)
  local value = login.node .. login.connection .. cmsgpack.pack(login.start, login.confirmed)
  call('HSET', user.key, field_of(login), value)
end

-- Removes the logins for which `goes` says so, and returns them.
local function remove(user, goes)
  local gone, stay = {}, {}
  for _, login in ipairs(user.logins) do
    if goes(login) then
      call('HDEL', user.key, field_of(login))
      gone[#gone + 1] = login
    else stay[#stay + 1] = login end
  end
  user.logins = stay
  return gone
end

local function find(user, number)
  for _, login in ipairs(user.logins) do
    if login.number == number then return login end
  end
end

local function living(user)
  local found = {}
  for _, login in ipairs(user.logins) do
    if is_alive(login.node) then found[#found + 1] = login end
  end
  return found
end

local function has_login_at(user, node)
  for _, login in ipairs(user.logins) do
    if login.node == node then return true end
  end
  return false
end

-- With what a login ended that there is no more: the frame of the last close, or nothing.
local function frame_of(user, number)
  if user.fence and unpack('>I8', user.fence) >= number then return sub(user.fence, 9) end
  return ''
end

-- Whether what is here is not what it was when the login was let in: the server has lost data.
local function is_of_lost_data(user, number)
  return number > user.last or number < tonumber(call('HGET', pushes, 'since') or 0)
end

-- Whether a login from before a failover says that it has messages up to a number that was given again since: what it has
-- may be the message that was lost.
local function is_ambiguous(user, login, upto)
  if not user.base then return false end
  local failover, top = unpack('>I8I8', user.base)
  return login < failover and upto > top
end

-- If no living login covers the cursor, the newest one starts there from now on. Its node is told, but for `silent`.
local function cover(user, name, silent)
  local newest
  for _, login in ipairs(living(user)) do
    if login.start <= user.cursor then return end
    if not newest or login.number > newest.number then newest = login end
  end
  if not newest then return end
  newest.start, newest.confirmed = user.cursor, user.cursor
  put(user, newest)
  if newest ~= silent then
    tell(newest.node, 4, pack('>I8I8', newest.number, user.cursor) .. named(name))
  end
end

-- Moves the cursor as far as the logins that cover it have come.
local function advance(user)
  local moves = true
  while moves do
    moves = false
    for _, login in ipairs(user.logins) do
      if login.start <= user.cursor and login.confirmed > user.cursor then
        user.cursor = login.confirmed
        moves = true
      end
    end
  end
end

-- The cursor has moved: what is delivered goes, but for the last ones, and all of it after some time.
local function delivered(user, log)
  local first = user.top + 1 - call('LLEN', log)
  local from = user.cursor + 1 - kept
  if from > first then
    call('LTRIM', log, from - first, -1)
    local entry = call('LINDEX', log, 0)
    user.before = entry and unpack('>I8', entry, 17) or user.bytes
  end
  if user.cursor >= user.top then
    call('PEXPIRE', log, history)
    user.renew = 0
  end
end

-- How long what waits is kept. Longer than said, since that is not renewed each time.
local function keep(key)
  if ttl > 0 then call('PEXPIRE', key, ttl + floor(ttl / 10)) else call('PERSIST', key) end
end

-- If nobody is logged in any more, the user is forgotten some time.
local function rest(user)
  if #user.logins > 0 then return end
  if user.top == 0 then call('PEXPIRE', user.key, history)
  elseif user.cursor < user.top then keep(user.key)
  else call('PEXPIRE', user.key, max(history, ttl > 0 and ttl or WEEK)) end
end

-- What is too old, or gone, is delivered. Returns the number before the first message.
local function drop_old(user, log)
  local length = call('LLEN', log)
  local before = user.top - length
  user.cursor = max(user.cursor, before)
  while ttl > 0 and length > 0 and before >= user.cursor do
    local entry = call('LINDEX', log, 0)
    if unpack('>I8', entry, 25) + ttl > now then break end
    call('LPOP', log)
    length, before = length - 1, before + 1
    local second = call('LINDEX', log, 0)
    user.before = second and unpack('>I8', second, 17) or user.bytes
    user.cursor = max(user.cursor, before)
  end
  return before
end

-- Whether a place, a number and an id, is one of this log, of which the messages after `before` are there.
local function is_place(user, log, before, place)
  local number, id = unpack('>I8', place), sub(place, 9, 16)
  if number == 0 or number < before or number > user.top then return false end
  if number == user.top then return id == user.id end
  local entry = call('LINDEX', log, max(number - before - 1, 0))
  if number == before then return sub(entry, 9, 16) == id end
  return sub(entry, 1, 8) == id
end

-- Adds to `out` the entries after a number, of a list that begins after `before`: not more than so many, nor than so many
-- bytes but for the first one. In front of a message an entry has `head` bytes.
local function page(out, log, before, after, head, messages, bytes)
  local at, size, is_first = max(after - before, 0), 0, true
  while messages > 0 do
    local count = min(messages, 16)
    local entries = call('LRANGE', log, at, at + count - 1)
    for _, entry in ipairs(entries) do
      size = size + #entry - head
      if size > bytes and not is_first then return end
      is_first = false
      out[#out + 1] = entry
    end
    if #entries < count then return end
    at, messages = at + count, messages - count
  end
end
