-- Every event is in exactly one session.
with events as (
    select count(*) as row_count from {{ ref('fct_session_events') }}
),

sessions as (
    select coalesce(sum(event_count), 0) as row_count from {{ ref('fct_sessions') }}
)

select events.row_count as events, sessions.row_count as in_sessions
from events
cross join sessions
where events.row_count != sessions.row_count
