{#- The column is 1, 2, 3, … without gaps or repeats within each group. To find repeated rows takes a fraction of the
    time of counting distinct values. -#}
{% test contiguous_from_one(model, column_name, group_by) %}
select {{ group_by }}
from {{ model }}
group by {{ group_by }}
having min({{ column_name }}) != 1 or max({{ column_name }}) != count(*)
union all
select {{ group_by }}
from (
    {{ repeated_rows(model, group_by ~ ', ' ~ column_name) }}
) as repeated
{% endtest %}
