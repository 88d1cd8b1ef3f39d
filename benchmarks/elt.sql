-- The marts, written by hand for DuckDB and one file of the Coveo layout. `elt.py` compares Boat's marts with these.
create schema marts;

-- Keep the order of the file, so that the number of a row gives its line.
set preserve_insertion_order = true;

create table lines as
select
    session_id_hash as session_id,
    make_timestamp(server_timestamp_epoch_ms * 1000) as event_time,
    case when event_type = 'event_product' then coalesce(product_action, 'pageview') else event_type end as event_type,
    product_sku_hash as product_id,
    hashed_url as url
from read_csv('{files}/browsing_train.csv', header = true, columns = {
    'session_id_hash': 'varchar', 'event_type': 'varchar', 'product_action': 'varchar', 'product_sku_hash': 'varchar',
    'server_timestamp_epoch_ms': 'bigint', 'hashed_url': 'varchar'});

set preserve_insertion_order = false;

-- Equal lines are one event, but equal purchases, adds and removes are separate events.
create table raw as
select
    case when copy = 1 then content_id else md5(concat_ws(chr(31), content_id, copy)) end as event_id,
    * exclude (content_id, copy)
from (
    select
        md5(concat_ws(chr(31), 'shop', session_id, '', epoch_us(event_time)::varchar, event_type,
            coalesce(product_id, ''), coalesce(url, ''), '', '', '')) as content_id,
        *
    from (
        select session_id, event_time, event_type, product_id, url, min(rowid) + 2 as source_line, 1 as copy
        from lines
        where event_type not in ('purchase', 'add', 'remove')
        group by session_id, event_time, event_type, product_id, url
        union all
        select
            session_id, event_time, event_type, product_id, url, rowid + 2 as source_line,
            row_number() over (partition by session_id, event_time, event_type, product_id, url order by rowid) as copy
        from lines
        where event_type in ('purchase', 'add', 'remove')
    )
);

drop table lines;

create table marts.fct_session_events as
select
    event_id, 'shop:' || session_id as session_key, 'shop' as shop, session_id, null::varchar as client_id,
    row_number() over in_session as position, event_time, event_type, product_id, url, null::varchar as query,
    null::double as price, null::double as quantity,
    (epoch_us(event_time) - epoch_us(lag(event_time) over in_session))::double / 1000000 as seconds_since_previous,
    'browsing_train.csv' as source_file, source_line
from raw
window in_session as (
    partition by session_id
    order by
        event_time,
        case event_type when 'pageview' then 1 when 'detail' then 4 when 'add' then 5 when 'remove' then 6 else 7 end,
        source_line
);

create table marts.fct_sessions as
select
    session_key, any_value(shop) as shop, any_value(session_id) as session_id, any_value(client_id) as client_id,
    min(event_time) as started_at, max(event_time) as ended_at, min(event_time)::date as session_date,
    count(*) as event_count,
    count(*) filter (event_type = 'pageview') as pageview_count,
    count(*) filter (event_type = 'detail') as detail_count,
    count(*) filter (event_type = 'add') as add_count,
    count(*) filter (event_type = 'remove') as remove_count,
    count(*) filter (event_type = 'purchase') as purchase_count,
    count(distinct event_time) filter (event_type = 'purchase') as transaction_count,
    count(distinct product_id) as product_count,
    min(event_time) filter (event_type = 'purchase') as first_purchase_at,
    coalesce(sum(price * coalesce(quantity, 1)) filter (event_type = 'purchase'), 0)::double as revenue,
    bool_or(event_type = 'purchase') as is_purchase
from marts.fct_session_events
group by session_key;

create table marts.fct_transactions as
select
    any_value(shop) as shop, null::varchar as transaction_id, session_key, any_value(client_id) as client_id,
    event_time as purchased_at, count(*) as line_count,
    coalesce(sum(price * coalesce(quantity, 1)), 0)::double as revenue, 0::double as tax, 0::double as shipping
from marts.fct_session_events
where event_type = 'purchase'
group by session_key, event_time;

create table marts.dim_products as
select
    'shop' as shop, product_id, product_name, category_hash as category, coalesce(price_bucket::double, price) as price,
    first_seen_at, coalesce(event_count, 0) as event_count,
    json_extract_string(description_vector, '$') as description_vector
from (
    select
        product_id, min(event_time) as first_seen_at, count(*) as event_count,
        max_by(price, event_time) filter (price is not null) as price
    from marts.fct_session_events
    where product_id is not null
    group by product_id
) as seen
full join (select product_sku_hash as product_id, * from read_csv('{files}/sku_to_content.csv', header = true)) as entry
    using (product_id)
full join (select product_sku_hash as product_id, product_name from read_csv('{files}/product_names.csv', header = true))
    as name using (product_id);

create table marts.recommend_examples as
select session_key, shop, started_at, item_position as position, event_time, event_type, product_id, url_before
from (
    select
        *, row_number() over (partition by session_key order by position) as item_position,
        count(*) over (partition by session_key) as item_count,
        case
            when page_1 <> coalesce(url, '') and event_time - time_1 >= interval 1 second then page_1
            when page_2 <> coalesce(url, '') and event_time - time_2 >= interval 1 second then page_2
            when page_3 <> coalesce(url, '') and event_time - time_3 >= interval 1 second then page_3
        end as url_before
    from (
        select
            session_key, shop, position, event_time, event_type, product_id, url,
            lag(case when event_type in ('detail', 'add', 'purchase') then product_id end ignore nulls) over in_session
                as previous_product_id,
            lag(page, 1) over in_session as page_1, lag(event_time, 1) over in_session as time_1,
            lag(page, 2) over in_session as page_2, lag(event_time, 2) over in_session as time_2,
            lag(page, 3) over in_session as page_3, lag(event_time, 3) over in_session as time_3
        from (
            select
                *,
                case
                    when event_type in ('add', 'remove', 'purchase') and product_id is not null
                        then event_type || ':' || product_id
                    else url
                end as page
            from marts.fct_session_events
        )
        window in_session as (partition by session_key order by position)
    )
    where event_type in ('detail', 'add', 'purchase') and product_id is distinct from previous_product_id
)
join (select session_key, started_at from marts.fct_sessions) using (session_key)
where item_count >= 2;

create table marts.intent_examples as
select session_key, shop, started_at, position, event_time, event_type, product_id, url, is_purchase
from marts.fct_session_events
join (select session_key, started_at, first_purchase_at, is_purchase from marts.fct_sessions) using (session_key)
where first_purchase_at is null or event_time < first_purchase_at;

create temp view session_kpis as
select
    *, false as is_first_of_client,
    coalesce(orders.revenue, 0) as order_revenue, coalesce(orders.tax, 0) as order_tax,
    coalesce(orders.shipping, 0) as order_shipping
from marts.fct_sessions
left join (
    select session_key, sum(revenue) as revenue, sum(tax) as tax, sum(shipping) as shipping
    from marts.fct_transactions
    group by session_key
) as orders using (session_key);

create temp macro kpis(moment) as table
select
    shop, moment as moment, count(*) as sessions, count(distinct client_id) as active_clients,
    count(*) filter (is_first_of_client) as new_clients, sum(event_count)::bigint as events,
    sum(pageview_count)::bigint as pageviews, sum(detail_count)::bigint as details, sum(add_count)::bigint as adds,
    sum(remove_count)::bigint as removes, sum(transaction_count)::bigint as transactions,
    count(*) filter (detail_count > 0) as sessions_with_detail, count(*) filter (add_count > 0) as sessions_with_add,
    count(*) filter (is_purchase) as buying_sessions, sum(order_revenue) as revenue, sum(order_tax) as tax,
    sum(order_shipping) as shipping, count(*) filter (is_purchase)::double / count(*) as conversion_rate
from session_kpis
group by all;

create table marts.kpi_daily as select shop, moment as day, * exclude (shop, moment) from kpis(session_date);
create table marts.kpi_hourly as
select shop, moment as hour, * exclude (shop, moment) from kpis(date_trunc('hour', started_at));

create table marts.daily_volume as
with counted as (
    select
        event_time::date as day, count(*) as events, count(product_id) as product_events,
        count(*) filter (event_type = 'pageview') as pageview_events,
        count(*) filter (event_type = 'detail') as detail_events,
        count(*) filter (event_type = 'add') as add_events,
        count(*) filter (event_type = 'remove') as remove_events,
        count(*) filter (event_type = 'purchase') as purchase_events
    from marts.fct_session_events
    group by day
),
unseen as (
    select event_time::date as day, count(*) as unseen_events
    from marts.fct_session_events as event
    join marts.dim_products as product on product.product_id = event.product_id and first_seen_at::date = event_time::date
    group by day
),
days as (
    select
        day::date as day, coalesce(columns(counted.* exclude (day)), 0), coalesce(unseen_events, 0) as unseen_events,
        max(day) over () as newest, row_number() over (order by day) - 1 as days_before
    from (select unnest(range(greatest(min(day), max(day) - 60), max(day) + 1, interval 1 day))::date as day from counted)
    left join counted using (day)
    left join unseen using (day)
),
compared as (
    select
        *, count(*) over weekdays_before_it as weekdays_before, avg(events) over weekdays_before_it as weekday_events,
        avg(product_events) over weekdays_before_it as weekday_product_events, avg(events) over month_before as trailing_events,
        avg(product_events) over month_before as trailing_product_events,
        avg(pageview_events) over month_before as trailing_pageviews, avg(detail_events) over month_before as trailing_details,
        avg(add_events) over month_before as trailing_adds, avg(remove_events) over month_before as trailing_removes,
        avg(purchase_events) over month_before as trailing_purchases
    from days
    window
        month_before as (order by day rows between 28 preceding and 1 preceding),
        weekdays_before_it as (partition by dayofweek(day) order by day rows between 4 preceding and 1 preceding)
)
select
    'shop' as shop, day, day = newest - 1 as is_newest_complete, events, product_events,
    case when days_before < 7 then null when weekdays_before < 2 then trailing_events
        else least(trailing_events, weekday_events) end as expected_events,
    case when days_before < 7 then null when weekdays_before < 2 then trailing_product_events
        else least(trailing_product_events, weekday_product_events) end as expected_product_events,
    case when days_before >= 7 and events > 0 and trailing_events > 0 then (
        abs(pageview_events / events - trailing_pageviews / trailing_events)
        + abs(detail_events / events - trailing_details / trailing_events)
        + abs(add_events / events - trailing_adds / trailing_events)
        + abs(remove_events / events - trailing_removes / trailing_events)
        + abs(purchase_events / events - trailing_purchases / trailing_events)) / 2 end as mix_drift,
    case when days_before >= 7 and events > 0 then
        (pageview_events = 0 and trailing_pageviews >= 20)::integer + (detail_events = 0 and trailing_details >= 20)::integer
        + (add_events = 0 and trailing_adds >= 20)::integer + (remove_events = 0 and trailing_removes >= 20)::integer
        + (purchase_events = 0 and trailing_purchases >= 20)::integer end as vanished_types,
    case when days_before >= 7 and product_events > 0 then unseen_events / product_events end as unseen_product_share
from compared;
