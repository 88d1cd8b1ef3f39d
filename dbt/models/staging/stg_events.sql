{{ config(meta={
    'clock_ahead_minutes': var('clock_ahead_minutes'),
    'clock_late_days': var('clock_late_days'),
    'earliest_event_time': var('earliest_event_time'),
    'largest_amount': var('largest_amount'),
    'largest_quantity': var('largest_quantity'),
}) }}

with logged as (
    {{ logged_events() }}
)

select * from logged
where {{ counts() }}
