-- Appends a message to the history of a room, and publishes it.
-- KEYS: room, history. ARGV: the channel of the room, id, how many messages are kept, and for how long in ms, what the push
-- has before the room's message, the message.
-- Answers: number, previous id, how many have got the push.
local room, log, id = KEYS[KEY], KEYS[KEY + 1], ARGV[ARG + 1]
local most, lasts = tonumber(ARGV[ARG + 2]), tonumber(ARGV[ARG + 3])
local head, message = ARGV[ARG + 4], ARGV[ARG + 5]
local number, previous = 0, NOTHING
local meta = call('GET', room)
if meta then number, previous = unpack('>I8', meta), sub(meta, 9, 16)
elseif call('LLEN', log) > 0 then call('DEL', log) end
local length = call('RPUSH', log, id .. previous .. message)
number = number + 1
call('SET', room, pack('>I8', number) .. id, 'PX', lasts)
if length > most then call('LTRIM', log, -most, -1) end
call('PEXPIRE', log, lasts)
local push = pack('>BBI8', 1, 5, 0) .. sub(head, 1, 8) .. pack('>I8', number) .. id .. previous .. sub(head, 9) .. message
return { number, previous, call(PUBLISH, ARGV[ARG], push) }
